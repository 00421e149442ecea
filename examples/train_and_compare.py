"""Train two recipes and compare them: python examples/train_and_compare.py DATA OUT [SETTING]."""

import sys

import delf_ext as mandoo
from delf_ext.recipes.codec import with_settings

path, out, *settings = sys.argv[1:]  # a setting such as optimizer.lr=1e-3 changes both recipes
data = mandoo.load_dataset(path)
models = []
for name in ("mandoo_dual", "mandoo_triplet"):
    recipe = with_settings(mandoo.recipes.RECIPES[name], settings)
    trained = mandoo.train(recipe, data, f"{out}/{name}", log=print)
    models.append(mandoo.open_model(trained.source))
print(mandoo.compare(models, data))
