"""The recipe of the embedded model ``dpfusion-tiny``. It is no part of the wheel.

The modules build everything from nothing: :mod:`~tiny_recipe.values` makes private values,
:mod:`~tiny_recipe.fields` and :mod:`~tiny_recipe.records` put them into sentences,
:mod:`~tiny_recipe.tasks` turns records into conversations, :mod:`~tiny_recipe.train` trains the model and
:mod:`~tiny_recipe.evaluate` measures it by free generation.

    PYTHONPATH=training python -m tiny_recipe.train --help
"""
