// Package schema knows what the data of events looks like: a JSON Schema for each version of each event
// type, what one version means for readers of another, and how older data becomes newer.
//
// A [Registry] is read from a directory with a file for each type and version, order.created.v1.json. It
// checks events ([Registry.Check]), and compares versions ([Registry.Diff]). A [Reader] is what a
// consumer goes by: it names the version that it understands and gets events of that version, older ones
// brought up by [Upcaster]s.
//
// The version of an event is its extension schemaversion, 1 where it has none. A schema is of the draft
// that its $schema names, 2020-12 where it names none, and formats ("date-time", "uuid") are checked. All
// schemas are compiled when the registry is made. Everything may be used from several goroutines.
package schema
