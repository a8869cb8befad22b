// Package migrate reads what ran the egress router, or the community haproxy image, and
// writes what takes its place: pods, Deployments and their like, ConfigMaps, Templates with
// their parameters, EgressRouter objects, as YAML or JSON.
//
// Nothing is dropped without a word: what is taken over is marked as it is read, and what has
// no mark at the end is named in a note, with its line. What would not start is a [Note] that
// breaks, and then nothing is written at all. Nothing is opened here, and no API server asked.
package migrate
