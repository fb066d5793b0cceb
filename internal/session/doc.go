// Package session owns the life of an AMQP connection: dial, lose, dial again.
//
// A [Session] is one connection and the channels opened on it. When the connection ends,
// everything made from it is dead for good: a late acknowledgement returns an error and the
// broker delivers the event again. That is the reason why the client library's automatic
// recovery is never used here: it keeps a channel object across connections, so that a late
// acknowledgement carries an old delivery tag to a new connection and confirms another
// message than the one that was handled.
//
// [Keep] holds one session at a time, with exponential back-off and full jitter between
// attempts, until its context ends.
package session
