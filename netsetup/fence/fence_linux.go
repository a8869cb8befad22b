package fence

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/fencetime"
)

// Nonce names an attempt to hold. No two attempts have the same.
type Nonce [16]byte

// String is the nonce in hexadecimal digits.
func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// Group is addresses that are held together.
type Group struct {
	Name  string // of up to 63 letters, digits, and -
	Addrs []netip.Addr
}

// Fence is the fence of a group. Its methods may be called concurrently; each is one
// transaction of the kernel, that takes effect as a whole or not at all.
type Fence struct {
	group Group
	// Weak says that the kernel has no egress hook for interfaces: raw frames, and what
	// waits for the neighbour's address, are not stopped.
	Weak bool

	mu      sync.Mutex
	covered []int // interfaces with an egress chain, by index
}

// ErrRefused is the error of an attempt that is not known, has ended, or has expired, and of
// a renewal of what is not held any more. Nothing was changed.
var ErrRefused = errors.New("refused by the fence: the attempt has expired, or has ended, or what it would renew is not held any more")

// defaultTimeout is that of the sets; each element has its own.
const defaultTimeout = time.Second

// Prepare begins an attempt: it may be committed for as long as p, of [fencetime.Least] to [fencetime.Most].
func (f *Fence) Prepare(nonce Nonce, p time.Duration) error {
	if err := fencetime.Check("prepare for", p); err != nil {
		return err
	}
	return f.transaction("prepare", func(t *transaction) {
		t.add(t.pending(), nonce[:], p)
	})
}

// Commit ends an attempt and holds the addresses for v, of [fencetime.Least] to [fencetime.Most], from now on.
// Renewing says that they are held: those that are not any more are not held again by it.
// [ErrRefused] ends the attempt, too: it is not tried again with less.
func (f *Fence) Commit(nonce Nonce, v time.Duration, renewing bool) error {
	if err := fencetime.Check("hold for", v); err != nil {
		return err
	}
	err := f.transaction("commit", func(t *transaction) {
		t.del(t.pending(), nonce[:])
		for _, set := range t.held() {
			for _, a := range f.group.Addrs {
				if a.Is4() != (set.KeyType.Bytes == addr4) {
					continue
				}
				if renewing {
					t.del(set, a.AsSlice())
				}
				t.add(set, a.AsSlice(), v)
			}
		}
	})
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("group %s, attempt %s: %w", f.group.Name, nonce, ErrRefused)
	}
	return err
}

// LetGo fences the addresses, and ends all attempts.
func (f *Fence) LetGo() error {
	return f.transaction("let go", func(t *transaction) {
		t.conn.FlushSet(t.pending())
		for _, set := range t.held() {
			t.conn.FlushSet(set)
		}
	})
}

// Held is for how long the addresses are held yet, less than which the kernel may have, by a
// few milliseconds; 0: they are not.
func (f *Fence) Held() (time.Duration, error) {
	conn, err := nftables.New()
	if err != nil {
		return 0, f.failed("read", err)
	}
	var left time.Duration
	for i, a := range f.group.Addrs {
		name := held6
		if a.Is4() {
			name = held4
		}
		elements, err := conn.GetSetElements(&nftables.Set{Table: tables(f.group.Name)[inet], Name: name})
		if err != nil {
			return 0, f.failed("read", err)
		}
		n := slices.IndexFunc(elements, func(e nftables.SetElement) bool { return string(e.Key) == string(a.AsSlice()) })
		if n < 0 {
			return 0, nil
		}
		if i == 0 || elements[n].Expires < left {
			left = elements[n].Expires
		}
	}
	return left, nil
}

// Dropped is how many packets the fence has dropped.
func (f *Fence) Dropped() (packets uint64, err error) {
	conn, err := nftables.New()
	if err != nil {
		return 0, f.failed("count", err)
	}
	for _, table := range tables(f.group.Name) {
		n, err := dropped(conn, table)
		if err != nil {
			return 0, f.failed("count", err)
		}
		packets += n
	}
	return packets, nil
}

func (f *Fence) failed(what string, err error) error {
	return fmt.Errorf("fence of group %s: %s: %w", f.group.Name, what, err)
}

// transaction is a batch for the kernel.
type transaction struct {
	conn   *nftables.Conn
	tables map[nftables.TableFamily]*nftables.Table
	weak   bool
	err    error // the first of what could not be put in
}

// transaction has fill put together a batch, and carries it out.
func (f *Fence) transaction(what string, fill func(*transaction)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	conn, err := nftables.New()
	if err != nil {
		return f.failed(what, err)
	}
	t := &transaction{conn: conn, tables: tables(f.group.Name), weak: f.Weak}
	fill(t)
	if t.err != nil {
		return f.failed(what, t.err)
	}
	if err := conn.Flush(); err != nil {
		return f.failed(what, err)
	}
	return nil
}

func (t *transaction) add(set *nftables.Set, key []byte, timeout time.Duration) {
	t.keep(t.conn.SetAddElements(set, []nftables.SetElement{{Key: key, Timeout: timeout}}))
}

func (t *transaction) del(set *nftables.Set, key []byte) {
	t.keep(t.conn.SetDeleteElements(set, []nftables.SetElement{{Key: key}}))
}

func (t *transaction) keep(err error) {
	if t.err == nil {
		t.err = err
	}
}

// pending is the set of attempts.
func (t *transaction) pending() *nftables.Set {
	return timed(t.tables[inet], pendingSet, nftables.TypeIP6Addr) // 128 bits, and nft can list them
}

// held are the sets of what may speak, of all tables that there are.
func (t *transaction) held() (all []*nftables.Set) {
	for _, family := range families(t.weak) {
		table := t.tables[family]
		all = append(all, timed(table, held4, nftables.TypeIPAddr))
		if family != arp {
			all = append(all, timed(table, held6, nftables.TypeIP6Addr))
		}
	}
	return all
}

func timed(table *nftables.Table, name string, key nftables.SetDatatype) *nftables.Set {
	return &nftables.Set{Table: table, Name: name, KeyType: key, HasTimeout: true, Timeout: defaultTimeout}
}
