"""Find the photographs most like yours: python examples/search.py MODEL PHOTO FOLDER."""

import sys

import delf_ext as mandoo

model_path, photo, folder = sys.argv[1:]
model = mandoo.open_model(model_path, log=print)  # a run directory, a checkpoint or FILE.onnx
hits = mandoo.search(model, photo, folder, top_k=None)
reranked = mandoo.rerank(hits, "aqe:5@3,k_reciprocal:20,6,0.3")
for query_path, query_hits in reranked:
    print(query_path)
    for hit in query_hits[:10]:
        print(f"  {hit.score:.4f}  {hit.path}")
