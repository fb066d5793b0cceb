// Package publisher publishes events to RabbitMQ and tells the outcome of each.
//
// Publishing is confirmed and pipelined: up to Config.Window events are on their way at a time,
// and a caller that would exceed it waits. Every accepted event gets exactly one [Outcome]:
// confirmed, returned, nacked or unknown. Outcomes are reported in the order of acceptance
// as long as nothing has to be sent again.
//
// Delivery is at least once. When the connection is lost, what is not confirmed is sent again
// on the next one under the same event id, so an event may arrive twice and is never lost
// silently. Events are persistent and mandatory; whether a confirm means "on disk" is the
// queue's promise: for a quorum queue it means that a majority of its members has it.
//
// Events sent by one goroutine reach the broker in the order of the calls, except that an event
// which is sent again after a lost connection may arrive a second time behind later ones.
package publisher
