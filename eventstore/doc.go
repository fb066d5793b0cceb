// Package eventstore keeps events in an SQLite file or a PostgreSQL database: an append-only log of streams, for event
// sourcing and as the outbox of messages.
//
// [Store.Append] appends to one or several streams, all or nothing, under expectations; it returns once the events are
// durable, and is idempotent by their ids. Positions in the log are dense and in the order of the commits, so
// [Store.Read] and [Store.Follow] never pass a place that is filled in later. [Load] makes a stream's state, now or at any
// version or time, with [SnapshotEvery] to save time; [Update] decides on new events from it. [Store.Project] keeps read
// models whose checkpoint commits with them. [Store.Verify] and [Store.Backup] look after a store.
//
//	store, err := eventstore.Open(ctx, eventstore.Config{DB: "orders.db"})
//	...
//	_, err = store.Append(ctx, eventstore.StreamWrite{
//		Stream: "order-1", Expect: eventstore.Exactly(3), Events: []event.Event{paid},
//	})
//
// An SQLite file must be on a local disk, and any number of processes may share it. Package eventstore/relay publishes
// the log to RabbitMQ; package worker/inbox remembers in the same database what was handled.
//
// Tables, indexes, triggers and functions whose names begin with evdemo_store_ are the store's. Triggers refuse to
// UPDATE and DELETE events, so that nobody does by mistake; SQLite's REPLACE goes past them.
package eventstore
