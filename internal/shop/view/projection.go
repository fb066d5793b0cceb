package view

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
)

const (
	// projectionName and projectionVersion identify the read model. Raise the version when the table, [Order] or its fold
	// changes: it is built anew then.
	projectionName    = "shop/orders"
	projectionVersion = 1

	// batch is how many events one transaction has at most. On SQLite whoever places an order meanwhile waits for it.
	batch = 200
)

// The table has the state as GET gives it away, so that nothing is made of it for each request.
const (
	makeTable = `CREATE TABLE IF NOT EXISTS evdemo_shop_orders (
		id      TEXT PRIMARY KEY,
		status  TEXT NOT NULL,
		version BIGINT NOT NULL,
		state   TEXT NOT NULL
	)`
	dropTable   = `DROP TABLE IF EXISTS evdemo_shop_orders`
	insertOrder = `INSERT INTO evdemo_shop_orders (id, status, version, state) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`
	selectState = `SELECT state FROM evdemo_shop_orders WHERE id = $1`
	updateOrder = `UPDATE evdemo_shop_orders SET status = $2, version = $3, state = $4 WHERE id = $1`
	selectOrder = `SELECT version, state FROM evdemo_shop_orders WHERE id = $1`
)

func (o *Orders) projection() eventstore.Projection {
	return eventstore.Projection{
		Name: projectionName, Version: projectionVersion, Types: eventTypes(), Batch: batch, Lease: o.config.Lease,
		Reset: reset, Apply: o.apply,
	}
}

func reset(ctx context.Context, tx *sql.Tx) error {
	for _, statement := range []string{dropTable, makeTable} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// maxID is how many bytes the id of an order may have: that of a stream.
const maxID = 1000

// apply writes what an event means for its order. An event that cannot be read, or is about no order that is known, must
// not stand in the way of all others: it is logged and passed over.
func (o *Orders) apply(ctx context.Context, tx *sql.Tx, r eventstore.Recorded) error {
	if o.local != nil {
		ctx = context.WithoutCancel(ctx) // nothing here waits for long; SQLite's driver has a goroutine for what could be ended
	}
	id := orderOf(&r)
	if id == "" {
		o.passedOver(ctx, &r, errors.New("it does not say which order it is about"))
		return nil
	}
	if len(id) > maxID || strings.ContainsFunc(id, unicode.IsControl) { // which PostgreSQL would not take
		o.passedOver(ctx, &r, errors.New("no order can have this id"))
		return nil
	}
	if r.Type == shop.OrderCreated {
		order, err := Order{}.apply(&r)
		if err == nil && order.ID != id {
			err = fmt.Errorf("it is about order %.60q", order.ID)
		}
		if err != nil {
			o.passedOver(ctx, &r, err)
			return nil
		}
		return write(ctx, tx, insertOrder, order)
	}
	var text string
	err := tx.QueryRowContext(ctx, selectState, id).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		o.passedOver(ctx, &r, ErrUnknown)
		return nil
	}
	if err != nil {
		return err
	}
	var order Order
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		return err
	}
	if order, err = order.apply(&r); err != nil {
		o.passedOver(ctx, &r, err)
	}
	return write(ctx, tx, updateOrder, order)
}

func write(ctx context.Context, tx *sql.Tx, statement string, order Order) error {
	state, err := json.Marshal(order)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, statement, order.ID, string(order.Status), order.Version, string(state))
	return err
}

func (o *Orders) passedOver(ctx context.Context, r *eventstore.Recorded, err error) {
	o.config.Logger.WarnContext(ctx, "view of orders: what an event says could not be used",
		slog.Int64("position", r.Position), slog.String("type", r.Type), slog.Any("error", err))
}
