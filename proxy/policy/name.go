package policy

import "github.com/sluiceproxy/sluice/acl"

// Name is what a Generation is called in logs, answers and metrics. It is never changed.
type Name struct {
	Number uint64 // 1, 2, … of this process
	// Hash stands for all that is judged by, whoever has it in force: 64 hex digits; "" when
	// it is not known.
	Hash string
}

// short is how many digits of a hash lines and answers show.
const short = 12

// Short is the beginning of the hash, for people; "" for nil.
func (n *Name) Short() string {
	if n == nil {
		return ""
	}
	return n.Hash[:min(short, len(n.Hash))]
}

// Revocation is why something that was admitted may not go on. It is never changed.
type Revocation struct {
	By       *Name        // the generation that does not admit it; nil: it has no name
	Decision acl.Decision // of that; the zero Decision where it is not a matter of rules
	Problem  string       // what it is then; "" where Decision says it
}

// Reason says it to people.
func (r *Revocation) Reason() string {
	if r.Problem != "" {
		return r.Problem
	}
	return r.Decision.Reason()
}
