"""Retrieval metrics of person re-identification: CMC, mAP and mINP, re-ranking, and verification thresholds.

reference      the definition of the metrics, in NumPy, query by query
evaluate       evaluate_rank (a distance matrix) and evaluate_features (features, by blocks of queries)
ranking        ranks of the true matches, compiled (rank_cylib.pyx) or in NumPy
nearest        the k nearest gallery features, by blocks; approximate, by faiss
expansion      average query expansion
reranking      k-reciprocal re-ranking, compiled (rerank_cylib.pyx) or in NumPy
verification   thresholds on the distance, with true and false accept rates
smallest       the smallest values of each row, compiled (smallest_cylib.pyx) or by torch.topk
checks         input checks that they share
"""

from utils.metrics.evaluate import Evaluation, distance_rows, evaluate_features, evaluate_rank, mean_metrics
from utils.metrics.reference import query_metrics, rank_gallery
from utils.metrics.reranking import ReRanking, re_ranking
from utils.metrics.verification import verify
from utils.structures import FeatureSet, RetrievalMetrics

__all__ = [
    "Evaluation",
    "FeatureSet",
    "ReRanking",
    "RetrievalMetrics",
    "distance_rows",
    "evaluate_features",
    "evaluate_rank",
    "mean_metrics",
    "query_metrics",
    "rank_gallery",
    "re_ranking",
    "verify",
]
