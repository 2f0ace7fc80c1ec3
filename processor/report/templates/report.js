"use strict";
// The page works without this script: it adds a copy button, arrow keys in heat maps, a cue at tables that scroll, and
// opens what is folded where a filter or print asks for it.
for (const button of document.querySelectorAll("button[data-copy]")) {
  const code = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
for (const table of document.querySelectorAll("table.heatmap")) {
  const cells = [...table.querySelectorAll("td[tabindex]")];
  cells.slice(1).forEach((cell) => { cell.tabIndex = -1; });
  table.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const cell = event.target.closest("td");
    if (!step || !cell) return;
    event.preventDefault();
    const row = table.rows[cell.parentElement.rowIndex + step[0]];
    const next = row && row.cells[cell.cellIndex + step[1]];
    if (!next || !next.hasAttribute("tabindex")) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const region = target.closest(".scroll");
    region.toggleAttribute("data-wide", region.scrollWidth > region.clientWidth + 1);
  }
});
for (const table of document.querySelectorAll(".scroll > table")) {
  sizes.observe(table);
  sizes.observe(table.parentElement);
}
for (const gallery of document.querySelectorAll(".gallery")) {
  gallery.querySelector(".filters").addEventListener("change", () => {
    for (const details of gallery.querySelectorAll("details")) details.open = true;
  });
}
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    details.dataset.printed = "";
  }
});
addEventListener("afterprint", () => {
  for (const details of document.querySelectorAll("details[data-printed]")) {
    details.open = false;
    delete details.dataset.printed;
  }
});
