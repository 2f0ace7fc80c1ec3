"""The synthetic set: rendered pedestrians in Market-1501's layout, synthesized on first use.

generate     ensure_synthetic, synthesize: a set on disk
render       render_image: one image
appearance, person, canvas     what people wear and carry, their bodies, the shapes these are made of
scene, camera                  what cameras see, and how they record it
"""
