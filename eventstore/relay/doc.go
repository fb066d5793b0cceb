// Package relay publishes the log of an event store to RabbitMQ. The log is the outbox: what was appended is
// published, what was not appended is not, and there is no second table that could say something else.
//
// Delivery is at least once. A relay keeps a checkpoint in the store, which is never ahead of an event that the broker
// has not confirmed, and of what is behind the checkpoint no more than Config.Window events are ever sent. So a relay
// that is killed, at whatever moment, leaves nothing out, and its successor publishes at most a window again, under the
// same ids.
//
// Events are published in the order of the log, by one relay at a time among all that run under a name, so a queue gets
// them in that order and each stream's in the order of its versions; a repetition comes behind its first arrival. One
// thing breaks that: an event that was returned or refused is published again, and what was on its way behind it may
// have got through. Config.Window 1 excludes that as well, at the price of its speed.
//
// An event that does not get through is never passed over. The relay stops sending, waits for the answers to what is on
// its way, and begins again with that event, alone, after a pause. Until it is through nothing else is.
package relay
