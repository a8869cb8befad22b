package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const envPrefix = "SLUICE_"

// envName is the variable of a flag, or "" for what has none.
func envName(flag string) string {
	if flag == "" {
		return ""
	}
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// serviceVariable is what Kubernetes puts into every pod for a Service whose name
// begins with "sluice": no setting, and no mistake.
var serviceVariable = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// unknownVariables warns of variables that look like settings but are none: a
// wrong one is ignored by every program, so a misspelt name would be too.
func unknownVariables(env map[string]string, all []Setting) Problems {
	var known, unknown []string
	for _, s := range all {
		known = append(known, s.Env)
	}
	for name := range env {
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) &&
			!serviceVariable.MatchString(strings.TrimPrefix(name, strings.TrimSuffix(envPrefix, "_"))) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	var ps Problems
	for _, name := range unknown {
		ps = append(ps, Problem{Source: name, Msg: "no such setting, ignored" + didYouMean(name, known)})
	}
	return ps
}

// didYouMean names the known word that is closest to word, if any is close.
func didYouMean(word string, known []string) string {
	best, least := "", len(word)/3+1
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is the number of letters to insert, delete or change to make b of a
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
