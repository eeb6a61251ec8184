"""The model floor: encoders, images, texts, training, evaluation, simulation. No database, no index, no HTTP."""
