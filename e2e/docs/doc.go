// Package docs runs what README.md and the pages of docs show: every block of code, as it
// stands there, or its row says why not here and where it is checked.
package docs
