"""Tests of what is deployed: the Helm chart and the images. `make chart` runs those of the chart, without a cluster."""
