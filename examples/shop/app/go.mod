module stagekeeper.dev/examples/shop

go 1.26.0
