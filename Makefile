# The front door. `make help` says what there is; the work is done by the scripts in hack/.
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test test-faults bench bench-scale lint crds sqlx release

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## the whole story on a throw-away cluster: deploy, switch, roll back (DEMO_KUBECONFIG: on yours)
	@hack/demo up

demo-down: ## remove everything that `make demo` made
	@hack/demo down

test: ## all tests, against a real node, registry and Postgres (KEEP_CLUSTER=1 keeps them)
	@hack/test

test-faults: ## the tests of faults: every plan of the crash matrix, database and watches, 200 environments broken and 1,000 objects made by chance
	@STAGEKEEPER_TEST_PLANS=all STAGEKEEPER_TEST_ENVIRONMENTS=200 STAGEKEEPER_TEST_INPUTS=1000 STAGEKEEPER_TEST_CHANGES=300 \
		hack/test --test matrix --test faults --test database --test views --test environments --test inputs

bench: ## measure the operator against a floor, for minutes; best on a machine that does nothing else
	@bench/run $(BENCH)

bench-scale: ## 100, 1,000 and 10,000 stages with environments in one cluster: memory, idle cost, restarts, webhooks, fairness, replicas
	@bench/run --stages 0 --deploys 0 --scans 0 --promotions 0 --environments 0 --history-rows 0 --log-lines 10000000 --crowd 100,1000,10000 --replicas 400 --out scale $(BENCH)

lint: ## formatting, clippy, shellcheck, drift of generated files
	@hack/lint

crds: ## rewrite crds/ from the types in src/api
	UPDATE=1 cargo test --locked --quiet --test crds

release: ## make what a release consists of, in dist/ (VERSION=0.1.0 [REGISTRY=ghcr.io/stagekeeper])
	@hack/release $(VERSION) $(REGISTRY)

sqlx: ## rewrite .sqlx/ from the queries and migrations
	@hack/sqlx
