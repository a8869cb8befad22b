# What failed in the output of `go test -v`: what each failed test said, at most 50 of its first lines and
# 50 of its last, and all that a package said behind a panic. The tests that passed say nothing here.
function test(name) { sub(/\/.*/, "", name); return name }
function show(name,    i) {
	for (i = 1; i <= n[name]; i++) {
		if (i == 51 && n[name] > 100) { print "    […]"; i = n[name] - 49 }
		print said[name, i]
	}
	n[name] = 0
}
/^=== (RUN|NAME|CONT)/ { now = test($3); next }
/^=== / { next }
/^--- (PASS|SKIP): / { n[test($3)] = 0; next }
/^--- FAIL: / { show(test($3)); print; next }
/^ +--- FAIL: / { print; next }
/^(panic: |fatal error: |signal: |SIG)/ { dead = 1; if (now) show(now) }
/^(FAIL|ok)\t/ { dead = 0; now = "" }
/^FAIL/ || dead || /^# / || /\[build failed\]/ { print; next }
now && !/^ +--- PASS/ { said[now, ++n[now]] = $0 }
