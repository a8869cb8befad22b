// Package hold decides who holds an address: for one replica and one group of addresses, what
// to do about what has happened, so that never two replicas hold, and one does again soon
// after the one before it has ended. It is pure: no clock, no goroutine, no socket; the
// caller is told what to do, and tells what came of it. Its test explores all that can happen.
//
// Source: failover.md of the specification; reference/fence.md for what the kernel does.
//
// # Why never two hold
//
// The kernel lets an address out (held) for V after a commit, and refuses a commit unless its
// nonce is pending, which it is for P after prepare. The write of the Lease is sent when the
// prepare is done, and the commit asked for when the write is acknowledged. So whatever is
// late, frozen or done twice, nothing is let out later than P + V after the write was made.
// Any other replica makes its write on condition of the resourceVersion that it has seen, at
// least 1.15 (P + V) after it has seen it: by then what any write before that version has let
// out is over, by clocks that differ by 10 %. That does not depend on who made that version,
// or what it says.
//
// Three things are let off from that wait, each because nothing can be let out:
//
//   - the process whose own write is the last: what is let out is its own. Identity and
//     nonces are those of a process, so a restarted one waits as any other;
//   - a Lease with the release mark, which is written after LetGone;
//   - with Keep, the holder goes on without the Lease. What protects then is that others do
//     not take an address that answers, and that what was fenced is not kept.
//
// A missing Lease is made anew with nobody as its holder, and only then taken, by an update: a
// create has no resourceVersion to go by, so one that was late could take what another had
// taken, if the Lease was deleted again meanwhile.
//
// What it cannot know: a Lease that is deleted or overwritten by hand, so that it does not say
// any more that a replica holds whose P + V is longer than the L of another, if that one has
// not seen the write before, either (it has just started, say). No wait is long enough for what
// nobody says, but that for MaxBound, a minute for each new gateway. So who makes P and V longer
// makes L longer first, everywhere: then there is no such L. And somebody who restores the text of an older write,
// nonce and all, over a newer one.
//
// # Who says that he can take over
//
// On SIGTERM the holder writes Lease.Leaving with a renewal, at once. A standby that sees it,
// and the gateway, writes itself into Lease.Successor, by an update that keeps all else. Such a
// standby is alive now, reaches the API and watches; only one can be it. The holder's
// renewal of that moment may meet a conflict: it reads, finds its own nonce, and goes on. Then
// it has the proxy drain, lets go, and writes the release mark, on which the successor takes
// the Lease at once. Without anybody in Settings.SuccessorWait it does the same, so that who
// comes later need not wait.
//
// New connections have no holder from Drain to the successor's commit, if the proxy takes
// none while it drains: what is to be short is Settings.DrainTimeout.
//
// # How to drive it
//
// One goroutine owns the Pool: it feeds one event after the other, each with the time of a
// monotonic clock at which it was received, and begins the actions of each step in their
// order before it feeds the next event. Beginning is all it does; it waits for nothing:
//
//   - Check, Prepare, Commit, LetGo, Probe, AddAddresses, RemoveAddresses, Announce go over
//     the one connection to the privileged side, which does them in the order in which they
//     come. Answers come as events. When the connection ends, what is not answered on it is
//     answered with OK: false, and the new connection has a connect only behind that;
//   - ReadLease and WriteLease run beside that, each with its deadline of 0.5 s: the answer,
//     or Unread and Unknown. At most one of the two is under way for a group;
//   - CutSockets, Drain and Publish go to the proxy and the API, and are tried again there;
//   - Note is for logs, metrics and Events. The same Note may come with every attempt.
//
// Each question (Check, Prepare, WriteLease, ReadLease, Commit, LetGo) is to have an answer
// within a second or so, made up if need be: a driver that never answers stops its group. A
// made-up answer may be followed by the real one: what is not waited for any more is ignored.
//
// What may be dropped or folded: a Tick when there was another event within 50 ms, of several
// Seen from the watch all but the last, any Note. What may not: any answer, Proxy, Leave.
// Ticks are needed at least every 50 ms, since nothing else says that a wait is over.
//
// The event Leave is for the end of the replica, not for the signal: a helper that gets
// SIGTERM ignores it until the proxy says on its socket that it was told to end (Leave), or
// is gone (Proxy with Serving false). After Done in every group (Pool.Ended) the process ends.
package hold
