// Package postgres is package inbox on PostgreSQL, for workers on any number of machines.
//
// A [Store] is a worker.DedupStore and a worker.GateStore. Handlers are the same on both databases: what
// inbox.Transact promises, and the errors of package inbox, hold here as well.
//
//	store, err := postgres.Open(ctx, postgres.Config{URL: "postgres://shop@db.example/shop"})
//	...
//	handle := func(ctx context.Context, d *worker.Delivery) error {
//		return inbox.Transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
//			_, err := tx.ExecContext(ctx, `INSERT INTO charges (event) VALUES ($1)`, d.Event.ID)
//			return err
//		})
//	}
//	w, err := worker.New(config, worker.Wrap(handle, worker.Dedup(store)))
//
// The function's transaction is its own (READ COMMITTED), begins with the record of the event, and is committed
// directly after it. It is one that package sql knows, on a connection of package pgx.
//
// While a process has an event in hand it holds a lock in the server, by a session that all its attempts share.
// Others wait for that. A process that dies ends its session, and its events are taken over at once; where its
// machine is gone, or the network, after some 15 s. A handler may take its time: it has no transaction open and
// no connection while it is not in Transact. A process that has lost its session and lives makes another one;
// until then another may begin with the same event. What they do by Transact takes effect once all the same.
//
// A commit whose answer was lost is looked up on another connection. The server's setting synchronous_commit says
// when a commit is durable: with off, a crash of the server may lose effects and records of the last moments, for
// events that have been acknowledged.
//
// Tables whose names begin with evdemo_inbox_ are the store's.
package postgres
