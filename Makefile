# Two commands matter: `make demo` shows the product, `make test` proves it. Both install what they need into .venv.
PYTHON ?= python3
SERVE ?= 1
PORT ?= 8000
LOCK ?= cpu
BIN := .venv/bin

.PHONY: demo test test-slow check bench openapi docs pictures lock licences sbom audit clean

demo: .venv/installed
	$(BIN)/alta demo $(if $(filter 0,$(SERVE)),--no-serve,--serve) --port $(PORT)

test: .venv/installed-test
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/installed-test
	$(BIN)/python -m pytest -m slow

check: .venv/installed-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml deploy/compose.gpu.yml deploy/compose.orthanc.yml
	$(BIN)/kubernetes-validate --strict --quiet --no-warn -k 1.31 deploy/kubernetes/secret.example.yaml \
		deploy/kubernetes/base/*.yaml deploy/kubernetes/components/*/*.yaml

bench: .venv/installed
	$(BIN)/python -m benchmarks.parity --vectors tests/data/parity/small

openapi: .venv/installed
	$(BIN)/python -m service.export_openapi > docs/openapi.json
	$(BIN)/python clients/python/generate_messages.py docs/openapi.json > clients/python/alta_client/messages.py

# The documentation as a site, in build/site; `python3 -m http.server -d build/site` serves it.
docs: .venv/installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What an installation consists of (docs/security.md, "Supply chain"). The tools have an environment of their own.
lock: build/supply/installed
	build/supply/bin/python requirements/lock.py

licences: build/supply/installed build/locked/installed
	build/supply/bin/python requirements/licences.py build/locked/bin/python

sbom: build/supply/installed build/locked/installed
	build/supply/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --of JSON \
		-o build/sbom.cdx.json build/locked/bin/python

# Exit code 1: something is vulnerable; 3: the advisory service could not be asked, so nothing is known.
audit: build/supply/installed
	build/supply/bin/python requirements/audit.py requirements/cuda.lock

# The pictures of the pages, from the archive that `make demo SERVE=0` makes and an installed Chromium.
pictures: .venv/installed-test
	$(BIN)/python docs/take_pictures.py

clean:
	rm -rf .venv data/demo

# The product as the lock installs it, and nothing of its developers'.
build/locked/installed: requirements/common.lock requirements/$(LOCK).lock
	rm -rf build/locked
	$(PYTHON) -m venv build/locked
	build/locked/bin/python -m pip install --require-hashes -r requirements/$(LOCK).lock || { \
		echo "Where pip knows no index with CPU builds of torch (PIP_EXTRA_INDEX_URL), ask with LOCK=cuda."; exit 1; }
	build/locked/bin/python -m pip install --no-deps --no-build-isolation .
	@touch $@

build/supply/installed: requirements/supply.lock
	$(PYTHON) -m venv build/supply
	build/supply/bin/python -m pip install --require-hashes -r requirements/supply.lock
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "The venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -c constraints.txt -e .
	@touch $@

.venv/installed-test: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[test]'
	@touch $@

.venv/installed-check: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -c constraints.txt -e '.[test,check]'
	@touch $@
