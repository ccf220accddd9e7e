"""Does it do what numpy does: golden models, simulation, measurement."""
