// Package inbox remembers in an SQLite file which events have been handled, so that a queue that
// delivers at least once has its effects exactly once.
//
// A [Store] is a worker.DedupStore. A handler under worker.Dedup that writes its effect through
// [Transact] has the effect and the record of it committed together: after a crash at any moment there
// are both or neither, and every further delivery of the event is a duplicate. A handler whose effect is
// elsewhere gets what worker.Dedup promises for that: one attempt is under way at a time, and what is
// done is remembered; a crash between the effect and the record makes the effect happen again.
//
//	store, err := inbox.Open(ctx, inbox.Config{Path: "payments.db"})
//	...
//	handle := func(ctx context.Context, d *worker.Delivery) error {
//		return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
//			_, err := tx.ExecContext(ctx, `INSERT INTO charges (event) VALUES (?)`, d.Event.ID)
//			return err
//		})
//	}
//	w, err := worker.New(config, worker.Wrap(handle, worker.Dedup(store)))
//
// Package inbox/postgres has a store with the same promises on PostgreSQL, for workers on several machines; handlers
// are the same.
//
// Any number of processes on one machine may share a file. They see each other's attempts: while one
// handles an event, the others wait for the outcome. A process that has died is known by the lease that
// it no longer renews; see Config.Lease. The file must be on a local disk, since SQLite's write-ahead
// log does not work over a network.
//
// What callers want written meanwhile is gathered and committed in one transaction, so that they
// share the wait for the disk. The application's own tables may live in the same file: that is what
// Transact is for. Tables whose names begin with evdemo_inbox_ are the store's.
package inbox
