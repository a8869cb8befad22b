// Package convert makes Sluice's rules of the configurations of other proxies: squid,
// smokescreen, tinyproxy, and the ports of a haproxy. It opens nothing by itself.
//
// What is converted never allows what the original denies, apart from what a [Finding] tells
// as [Differs] or [Opens]. Where rules cannot say what the original did they say less: a line
// that allows is left out, a line that denies is said wider. Each such line is a finding, and
// nothing is dropped without one.
//
// # How squid is read
//
// Each http_access line is a conjunction of acls, each a union of values; the first line all
// of whose acls match decides, and when none does, the opposite of the last line. The lines
// are put together from the last to the first: if this line matches, its verdict, else the
// list so far. An exception (`deny !allowed`, `allow !blocked`) is that list, or the part of it
// that lies inside. Acls of clients (src) make the list of each group of clients by itself:
// those become tenants.
//
// An acl that rules cannot say (of time, of users, of a URL's path) is unknown. A line that
// allows only if it matches allows nothing; a line that denies if it matches denies whatever
// else of the line matches. [Squid.Ignore] leaves out lines whose loss is meant.
package convert
