package hold

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"time"
)

// coder turns worlds into parts and back. It is one goroutine's.
type coder struct {
	canon
	forms     *forms
	parts     parts // of the last world
	classes   [3]int
	buf       []byte
	strings   numbers
	processes numbers
	placed    []name // the nonces of what is written
	order     []uint32
}

func newCoder(r *rules, f *forms) *coder {
	c := &coder{canon: canon{r: r}, forms: f, strings: newNumbers(allNames), processes: newNumbers(1 << 16 / perProcess)}
	for i := range c.classes {
		c.classes[i] = r.class(i)
	}
	return c
}

// encode is w in parts, until the next one.
func (c *coder) encode(w *world) *parts {
	p := &c.parts
	p.faults, p.version, p.process = w.faults, uint16(w.version), uint16(w.process)
	for i := range c.r.replicas {
		c.encodeReplica(w, i, &p.all[i])
	}
	c.encodeLease(w, &p.all[theLease])
	return p
}

func (c *coder) encodeReplica(w *world, i int, to *part) {
	c.replica(w, i)
	p := w.replicas[i]
	c.put(to, uint16(p.s.count), func() form {
		kept := *p
		kept.s = shifted(p.s, time.Duration((noon-w.tick)*c.r.rate[i])*time.Millisecond)
		return form{replica: &kept, lets: p.kernel.held > 0, prunable: p.prunable()}
	})
}

func (c *coder) encodeLease(w *world, to *part) {
	c.stored(w)
	c.put(to, 0, func() form { return form{lease: w.lease} })
}

func (c *coder) put(to *part, count uint16, first func() form) {
	to.count = count
	to.names, to.nonces = append(to.names[:0], c.names...), append(to.nonces[:0], c.nonces...)
	to.form = c.forms.number(c.out, func() form {
		f := first()
		f.names, f.nonces = slices.Clone(c.names), slices.Clone(c.nonces)
		return f
	})
}

// decode is a world of p.
func (c *coder) decode(p *parts) *world {
	w := c.leased(p)
	for i := range c.r.replicas {
		w.replicas[i] = c.decodeReplica(&p.all[i])
	}
	return w
}

// leased is a world of p without its replicas.
func (c *coder) leased(p *parts) *world {
	f := c.forms.of(p.all[theLease].form)
	n := renaming{&f.part, &p.all[theLease]}
	return &world{lease: n.lease(f.lease), tick: noon, faults: p.faults, version: int(p.version), process: int(p.process)}
}

func (c *coder) decodeReplica(p *part) *replica {
	f := c.forms.of(p.form)
	n := renaming{&f.part, p}
	return n.replica(f.replica)
}

// key is a hash of 96 bits. That any two of a thousand million different worlds have the same one
// is less likely than one in 10^11.
type key [3]uint32

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func hash(b []byte) key {
	x, y := maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)
	return key{uint32(x), uint32(x >> 32), uint32(y)}
}

func (c *coder) keyOf(w *world) key { return c.key(c.encode(w)) }

var orders = [...][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}

// key is the same for worlds that can only do the same: with the same forms, and names of
// which the same are equal, and the same nonces of a process before others. Of replicas that are
// alike it does not matter which is which.
func (c *coder) key(p *parts) key {
	n := c.r.replicas
	o, tie := [3]int{0, 1, 2}, false
	for i := 1; i < n; i++ { // sorts
		for j := i; j > 0 && c.compare(p, o[j-1], o[j]) > 0; j-- {
			o[j-1], o[j] = o[j], o[j-1]
		}
	}
	for i := 1; i < n; i++ {
		tie = tie || c.compare(p, o[i-1], o[i]) == 0
	}
	c.writeAll(p, o)
	if !tie {
		return hash(c.buf)
	}
	best := slices.Clone(c.buf)
	for _, other := range orders {
		same := true
		for i := range n {
			same = same && other[i] < n && c.compare(p, o[i], other[i]) == 0
		}
		if !same {
			continue
		}
		if c.writeAll(p, other); slices.Compare(c.buf, best) < 0 {
			best = append(best[:0], c.buf...)
		}
	}
	return hash(best)
}

// compare is 0 for replicas that differ in their names alone.
func (c *coder) compare(p *parts, i, j int) int {
	if d := c.classes[i] - c.classes[j]; d != 0 {
		return d
	}
	return int(p.all[i].form) - int(p.all[j].form)
}

// writeAll writes p, with its replicas in the order o.
func (c *coder) writeAll(p *parts, o [3]int) {
	c.begin()
	c.buf = append(c.buf, byte(p.faults))
	for _, i := range o[:c.r.replicas] {
		c.write(&p.all[i])
	}
	c.write(&p.all[theLease])
	c.end(1)
}

// begin begins to write parts of another world.
func (c *coder) begin() {
	c.strings.begin()
	c.processes.begin()
	c.buf, c.placed = c.buf[:0], c.placed[:0]
}

// write writes p, but for its nonces, which end writes.
func (c *coder) write(p *part) {
	c.buf = binary.LittleEndian.AppendUint32(c.buf, p.form)
	for _, n := range p.names {
		c.buf = append(c.buf, c.strings.of(n))
	}
	c.placed = append(c.placed, p.nonces...)
}

// end writes the nonces: whose each is, and its rank, which is higher by gap than that of the one
// before, but for one right behind it.
func (c *coder) end(gap byte) {
	c.order = c.order[:0]
	at := len(c.buf)
	for i, n := range c.placed {
		p := c.processes.of(n / perProcess)
		c.buf = append(c.buf, p, 0)
		x := (uint32(p)*perProcess+uint32(n%perProcess))<<8 | uint32(i)
		j := len(c.order)
		c.order = append(c.order, x)
		for ; j > 0 && c.order[j-1] > x; j-- {
			c.order[j] = c.order[j-1]
		}
		c.order[j] = x
	}
	rank := byte(0)
	for k, x := range c.order {
		if k > 0 {
			switch x>>8 - c.order[k-1]>>8 {
			case 0:
			case 1:
				rank++
			default:
				rank += gap
			}
		}
		c.buf[at+2*int(x&0xff)+1] = rank
	}
}

// flat adds p to data.
func (c *coder) flat(data []uint16, p *parts) []uint16 {
	data = append(data, uint16(p.faults), p.version, p.process)
	for i := range p.all {
		if i < c.r.replicas || i == theLease {
			q := &p.all[i]
			data = append(data, uint16(q.form), uint16(q.form>>16), q.count, uint16(len(q.names)), uint16(len(q.nonces)))
			data = append(append(data, q.names...), q.nonces...)
		}
	}
	return data
}

// unflat is what flat has added; it shares data.
func (c *coder) unflat(data []uint16, p *parts) {
	p.faults, p.version, p.process = int(data[0]), data[1], data[2]
	data = data[3:]
	for i := range p.all {
		if i < c.r.replicas || i == theLease {
			names, nonces := int(data[3]), int(data[4])
			p.all[i] = part{
				form: uint32(data[0]) | uint32(data[1])<<16, count: data[2],
				names: data[5 : 5+names : 5+names], nonces: data[5+names : 5+names+nonces : 5+names+nonces],
			}
			data = data[5+names+nonces:]
		}
	}
}

func (c *coder) holders(p *parts) (n int) {
	for i := range c.r.replicas {
		if c.forms.of(p.all[i].form).lets {
			n++
		}
	}
	return n
}
