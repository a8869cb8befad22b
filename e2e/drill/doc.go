// Package drill has no code but tests: a random load on both front doors in which each
// byte says whose it is, and is checked at either end.
//
// Everything about an exchange is drawn from the seed, its class and its number, which
// travel with it: client, server and whoever reads the report know the same plan. A
// failure prints the seed; the plans are the same with -seed, the moments are not.
//
//	go test -race ./e2e/drill                     # 10 s
//	SLUICE_DRILL=10m go test -race -cpu 1,2 -timeout 1h ./e2e/drill
package drill
