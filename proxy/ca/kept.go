package ca

import (
	"crypto/sha256"
	"crypto/tls"
	"sync"
	"weak"
)

// Kept are the authorities that are in use somewhere, by what they are made of: a reload that
// finds the same CA goes on with what it has signed, so that sessions of clients go on, too. One that
// nobody uses any more is not kept. The zero Kept is ready; its methods may be called concurrently.
type Kept struct {
	mu  sync.Mutex // guards all
	all map[[2][sha256.Size]byte]weak.Pointer[Authority]
}

// New is [New], or the authority that was made of the same certificates and key before.
func (k *Kept) New(pair tls.Certificate, certText, keyText []byte) (*Authority, error) {
	made, err := New(pair) // which looks at the time, too
	if err != nil {
		return nil, err
	}
	of := [2][sha256.Size]byte{sha256.Sum256(certText), sha256.Sum256(keyText)}
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.all[of].Value(); a != nil {
		return a, nil
	}
	for old, p := range k.all {
		if p.Value() == nil {
			delete(k.all, old)
		}
	}
	if k.all == nil {
		k.all = map[[2][sha256.Size]byte]weak.Pointer[Authority]{}
	}
	k.all[of] = weak.Make(made)
	return made, nil
}
