package sink

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/sqlitefile"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/webhook"
)

const (
	// DefaultWebhookTimeout is how long a receiver may take to answer.
	DefaultWebhookTimeout = 5 * time.Second
	// receiverConnections is how many connections to a receiver are kept open.
	receiverConnections = 16
	// maxWords is how much of why a receiver has refused an event is kept.
	maxWords = 500
)

// What became of an event at a receiver.
const (
	outcomeGot     = 1
	outcomeRefused = 2
)

const webhooksSchema = `
CREATE TABLE outcomes (
	source   TEXT NOT NULL,
	id       TEXT NOT NULL,
	receiver TEXT NOT NULL,
	outcome  INTEGER NOT NULL,
	type     TEXT NOT NULL,
	words    TEXT NOT NULL, -- why it was refused
	at       INTEGER NOT NULL, -- milliseconds since 1970
	PRIMARY KEY (source, id, receiver)
) STRICT, WITHOUT ROWID;
CREATE INDEX refused ON outcomes (at) WHERE outcome = 2`

// Receiver is a third party that is told of events.
type Receiver struct {
	// URL is where events are posted to, http or https. It is needed.
	URL string
	// Secret signs every request as Standard Webhooks have it: base64, with or without whsec_ before it. It is needed.
	Secret string
	// Types are the types of the events that it wants. Default: all.
	Types []string
	// Name is what is remembered of it by: with another name it is another receiver, who gets a log that is replayed all
	// over again. Default: the host of the URL with a sum of the whole.
	Name string
}

// WebhooksConfig says who is told. DB and at least one receiver are needed.
type WebhooksConfig struct {
	// DB is an SQLite file of its own, in a folder that exists.
	DB string
	// Receivers are told independently of each other.
	Receivers []Receiver
	// Timeout is how long a receiver may take to answer. Default 5 s.
	Timeout time.Duration
	// Logger receives what a receiver has refused. Default: nothing is logged.
	Logger *slog.Logger
}

// Webhooks posts events to third parties, signed as Standard Webhooks have it; see package worker/webhook for the request
// and for what an answer means. An attempt at an event tells all receivers that have not got it yet, at the same time. What
// a receiver has got, or refused, is remembered in an SQLite file, and it is not told again. A receiver that fails makes
// the event be tried again, for that receiver alone; while it keeps failing it is left alone for a while, and does not take
// the time of the others.
//
// A receiver gets an event again where the process is killed, or the connection lost, before it is known that it got it:
// always under the same webhook-id, by which it can tell.
type Webhooks struct {
	config    WebhooksConfig
	db        *database
	outcomes  *group[outcome]
	receivers []*receiver
	attempts  *worker.MemoryStore // one at a time at an event
}

// receiver is one that is told.
type receiver struct {
	name   string
	types  []string
	poster *webhook.Poster
	fuse   fuse
}

// outcome is what is remembered.
type outcome struct {
	key
	receiver, eventType string
	outcome             int
	words               string
}

// OpenWebhooks opens the file, and makes it where there is none. The error names all that is wrong with config, without
// what is secret in it, and wraps [ErrInUse] where another process has the file open.
func OpenWebhooks(ctx context.Context, config WebhooksConfig) (*Webhooks, error) {
	config.Timeout = cmp.Or(config.Timeout, DefaultWebhookTimeout)
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	w := &Webhooks{config: config, attempts: worker.NewMemoryStore(worker.MemoryConfig{})}
	errs := w.prepare()
	if config.DB == "" {
		errs = append(errs, errors.New("no database"))
	}
	err := errors.Join(errs...)
	if err == nil {
		w.db, err = openDatabase(ctx, config.DB, webhooksSchema)
	}
	if err != nil {
		return nil, fmt.Errorf("open webhooks %s: %w", config.DB, err)
	}
	w.outcomes = startGroup(ctx, w.write)
	return w, nil
}

// prepare makes the receivers, and tells all that is wrong with them.
func (w *Webhooks) prepare() (errs []error) {
	if len(w.config.Receivers) == 0 {
		errs = append(errs, errors.New("no receiver"))
	}
	names := map[string]bool{}
	for n, r := range w.config.Receivers {
		name := cmp.Or(r.Name, nameOf(r.URL))
		poster, err := webhook.New(webhook.Config{
			URL: r.URL, Secret: r.Secret, Concurrency: receiverConnections, Timeout: w.config.Timeout,
		})
		if strings.TrimSpace(r.Secret) == "" {
			err = errors.Join(err, errors.New("no secret: its requests would not be signed"))
		}
		if names[name] {
			err = errors.Join(err, fmt.Errorf("name %s: another receiver has it", name))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("receiver %d: %w", n+1, err))
			continue
		}
		names[name] = true
		w.receivers = append(w.receivers, &receiver{name: name, types: r.Types, poster: poster})
	}
	return errs
}

// nameOf names a receiver without what may be secret in its URL.
func nameOf(address string) string {
	host := ""
	if u, err := url.Parse(address); err == nil {
		host = u.Host
	}
	sum := sha256.Sum256([]byte(address))
	return host + "#" + hex.EncodeToString(sum[:6])
}

// Name implements [Sink].
func (w *Webhooks) Name() string { return WebhooksName }

// Topics implements [Sink]: all, but for the commands'.
func (w *Webhooks) Topics() []string { return Topics(WebhooksName) }

// Handle implements [Sink]. It returns nil once every receiver that wants the event has got or refused it, and that is
// remembered. Otherwise the error says which have not.
func (w *Webhooks) Handle(ctx context.Context, d *worker.Delivery) error {
	if err := admit(d); err != nil {
		return err
	}
	wanting := w.wanting(d.Event)
	if len(wanting) == 0 {
		return worker.ErrSkip
	}
	told := false
	_, err := w.attempts.Once(ctx, worker.Key{Source: d.Event.Source, ID: d.Event.ID}, func(ctx context.Context) error {
		left, err := w.left(ctx, d, wanting)
		if err != nil {
			return fmt.Errorf("webhooks %s: %w", w.config.DB, sqlitefile.Explain(err))
		}
		told = len(left) > 0
		return w.tell(ctx, d, left)
	})
	if err == nil && !told {
		return worker.ErrDuplicate
	}
	return err
}

func (w *Webhooks) wanting(e event.Event) (wanting []*receiver) {
	for _, r := range w.receivers {
		if len(r.types) == 0 || slices.Contains(r.types, e.Type) {
			wanting = append(wanting, r)
		}
	}
	return wanting
}

// left gives those of the receivers that have neither got nor refused an event.
func (w *Webhooks) left(ctx context.Context, d *worker.Delivery, wanting []*receiver) ([]*receiver, error) {
	const query = `SELECT receiver FROM outcomes WHERE source = ? AND id = ?`
	done, err := collect(ctx, w.db.DB, query, func(rows *sql.Rows, name *string) error { return rows.Scan(name) },
		d.Event.Source, d.Event.ID)
	return slices.DeleteFunc(slices.Clone(wanting), func(r *receiver) bool { return slices.Contains(done, r.name) }), err
}

// tell tells receivers at the same time. An error does not keep the others from being told. Where an error asks for a
// delay, the shortest counts: what asked for longer is left alone until then.
func (w *Webhooks) tell(ctx context.Context, d *worker.Delivery, receivers []*receiver) error {
	errs, waits := make([]error, len(receivers)), make([]time.Duration, len(receivers))
	var telling sync.WaitGroup
	for i, r := range receivers {
		telling.Go(func() { waits[i], errs[i] = w.tellOne(ctx, d, r) })
	}
	telling.Wait()
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	shortest := time.Duration(-1)
	for i := range errs {
		if errs[i] != nil && (shortest < 0 || waits[i] < shortest) {
			shortest = waits[i]
		}
	}
	if shortest > 0 {
		return worker.RetryAfter(shortest, err)
	}
	return err
}

// tellOne tells one receiver, and remembers it where that is settled. A wait goes with an error that asks for one.
func (w *Webhooks) tellOne(ctx context.Context, d *worker.Delivery, r *receiver) (wait time.Duration, err error) {
	turn, wait := r.fuse.attempt(time.Now())
	if wait > 0 {
		return wait, fmt.Errorf("receiver %s: is left alone for %v", r.name, wait.Round(time.Millisecond))
	}
	err = r.poster.Handle(ctx, d)
	settled := outcome{key: keyOf(d), receiver: r.name, eventType: d.Event.Type, outcome: outcomeGot}
	wait, permanent := judge(err)
	switch {
	case err == nil:
	case permanent:
		settled.outcome, settled.words = outcomeRefused, cut(err.Error(), maxWords)
		w.config.Logger.Warn("webhooks: a receiver has refused an event", slog.String("receiver", r.name),
			slog.String("id", d.Event.ID), slog.String("type", d.Event.Type), slog.Any("error", err))
	case wait > 0:
		r.fuse.asked(time.Now(), wait)
		return wait, fmt.Errorf("receiver %s: %v", r.name, err) //nolint:errorlint // its wait is not that of the whole
	default:
		if ctx.Err() == nil {
			r.fuse.failed(turn, time.Now())
		}
		return 0, fmt.Errorf("receiver %s: %w", r.name, err)
	}
	r.fuse.worked()
	if err := w.outcomes.do(context.WithoutCancel(ctx), settled); err != nil {
		return 0, fmt.Errorf("webhooks %s: receiver %s has got the event, but that cannot be remembered: %w", w.config.DB, r.name, err)
	}
	return 0, nil
}

// cut cuts a text to so many bytes.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}

// judge tells what a handler's error asks for.
func judge(err error) (wait time.Duration, permanent bool) {
	const none = time.Nanosecond // what a worker would wait that is not asked to
	wait, reason := worker.Policy{Retry: []time.Duration{none}, MaxAttempts: 2}.Decide(1, err)
	if wait <= time.Millisecond {
		wait = 0
	}
	return wait, err != nil && reason != ""
}

// write remembers a batch.
func (w *Webhooks) write(ctx context.Context, batch []outcome) error {
	err := transact(ctx, w.db.DB, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, `INSERT INTO outcomes (source, id, receiver, outcome, type, words, at)
			VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
		if err != nil {
			return err
		}
		defer insert.Close()
		now := time.Now().UnixMilli()
		for _, o := range batch {
			if _, err := insert.ExecContext(ctx, o.source, o.id, o.receiver, o.outcome, o.eventType, o.words, now); err != nil {
				return err
			}
		}
		return nil
	})
	return sqlitefile.Explain(err)
}

// Refusal is an event that a receiver did not want, and will not be told of again.
type Refusal struct {
	Receiver string    `json:"receiver"`
	Source   string    `json:"source"`
	ID       string    `json:"id"`
	Type     string    `json:"type"`
	Answer   string    `json:"answer"`
	At       time.Time `json:"at"`
}

// Refusals gives what was refused, the latest first, no more than limit.
func (w *Webhooks) Refusals(ctx context.Context, limit int) ([]Refusal, error) {
	const query = `SELECT receiver, source, id, type, words, at FROM outcomes WHERE outcome = 2 ORDER BY at DESC LIMIT ?`
	return collect(ctx, w.db.DB, query, func(rows *sql.Rows, r *Refusal) error {
		var at int64
		err := rows.Scan(&r.Receiver, &r.Source, &r.ID, &r.Type, &r.Answer, &at)
		r.At = time.UnixMilli(at).UTC()
		return err
	}, limit)
}

// Close implements [Sink].
func (w *Webhooks) Close(context.Context) error {
	w.outcomes.close()
	for _, r := range w.receivers {
		r.poster.Close()
	}
	if err := w.db.Close(); err != nil {
		return fmt.Errorf("close webhooks %s: %w", w.config.DB, err)
	}
	return nil
}
