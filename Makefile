# Every target makes the environment first, if it is missing or its pins have changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RIVALS := .rivals
ORACLES := .oracles
OUT := out
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help

help:  ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(RIVALS)/.made: rivals.txt
	$(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check -r rivals.txt
	@touch $@

$(ORACLES)/%: tests/oracles/%/go.mod tests/oracles/%/*.go
	@mkdir -p $(ORACLES)
	cd tests/oracles/$* && go build -ldflags '-s -w' -o $(CURDIR)/$@ .

demo: $(VENV)/.run  ## From the sample logs to checked policies and a diff, in ./out
	@$(BIN)/flowpolicy demo --no-open --out $(OUT)

test: check pytest  ## Everything that CI runs: linters, types, tests

check: $(VENV)/.dev  ## Linters and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

pytest: $(VENV)/.dev  ## Tests only
	$(BIN)/python -m pytest -n auto --dist loadgroup -q

rivals: $(RIVALS)/.made  ## Install what agreement and benchmarks compare with

oracles: $(ORACLES)/cilium $(ORACLES)/calico  ## Build the policy engines of Cilium and Calico (needs Go)

agreement: $(VENV)/.dev $(RIVALS)/.made oracles  ## Judge 2,000 drawn clusters as others do
	AGREEMENT_EXAMPLES=2000 $(BIN)/python -m pytest -q tests/test_agreement.py tests/test_oracles.py

format: $(VENV)/.dev  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: $(VENV)/.dev  ## Rewrite the golden files; read the difference before you commit it
	$(BIN)/python -m pytest -q tests/test_golden.py --update-golden

protocols: $(VENV)/.dev  ## Generate the messages of the live protocols from their .proto files
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. ingest/protocols/*.proto

report-assets:  ## Bundle the report's page from ./report (needs node; the bundle is committed)
	cd report && npm ci --no-audit --no-fund && npm run build

samples: $(VENV)/.run  ## Make data/samples anew (the same bytes each time)
	$(BIN)/python data/samples/generate.py

$(VENV)/.fuzz: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

fuzz: $(VENV)/.fuzz  ## Fuzz the readers of logs, a minute each (FUZZ_SECONDS)
	@for name in hubble calico goldmane documents; do \
	  mkdir -p $(OUT)/fuzz/$$name; echo "fuzzing $$name"; \
	  $(BIN)/python -m fuzz.target $$name -max_total_time=$(FUZZ_SECONDS) -max_len=8192 \
	    -verbosity=0 -artifact_prefix=$(OUT)/fuzz/$$name- $(OUT)/fuzz/$$name fuzz/corpus/$$name \
	    || exit 1; \
	done

.cluster/.made: tests/cluster/go.mod tests/cluster/build.sh
	@mkdir -p .cluster
	tests/cluster/build.sh $(CURDIR)/.cluster
	@touch $@

cluster: .cluster/.made  ## Build a real API server and etcd for the tests (needs Go)

test-cluster: $(VENV)/.dev .cluster/.made  ## Tests against the real API server
	$(BIN)/python -m pytest -q tests/test_cluster.py

bench: $(VENV)/.dev $(RIVALS)/.made  ## Benchmarks: ratios against the named rivals
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.evaluate
	$(BIN)/python -m benchmarks.patterns
	$(BIN)/python -m benchmarks.rivals
	$(BIN)/python -m benchmarks.scale

lock: $(VENV)/.dev  ## Pin the newest allowed versions in constraints.txt (needs uv)
	uv pip compile -q --universal --python-version 3.11 --all-extras --no-header --no-annotate \
	  --no-emit-package flowpolicy --upgrade pyproject.toml -o constraints.txt

clean:  ## Remove what was made
	rm -rf $(VENV) $(RIVALS) $(ORACLES) $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help demo test check pytest report-assets rivals oracles agreement format golden samples fuzz cluster test-cluster bench lock clean protocols
