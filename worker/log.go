package worker

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

const (
	// logPrefetch is how many entries the broker sends ahead, which bounds the memory that reading
	// takes, together with their size.
	logPrefetch = 1000
	logAckEvery = logPrefetch / 4
	// The broker does not say where a log ends. It sends the newest entries in one go, and these
	// bound the wait for the first of them, for all of them, and for a broker that is slow.
	logEmptyAfter = 2 * time.Second
	logQuiet      = 500 * time.Millisecond
	logProbeLimit = 10 * time.Second
	// logSilence is how long nothing may come from a moment on before there is nothing from there on.
	logSilence = 5 * time.Second

	headerStreamOffset = "x-stream-offset"
	headerReplayed     = "evdemo-replayed" // when it was sent again from a log or a file, RFC 3339
)

var (
	// ErrNoLog is wrapped by the error of [ReadLog] where the topic has no log.
	ErrNoLog = errors.New("topic has no log")
	// ErrBeyondLog is wrapped by the error of [ReadLog] where the log has not come as far as the offset
	// asked for, or is not the one any more in which that was.
	ErrBeyondLog = errors.New("log has not come so far")
)

// LogConfig says which log to read, and what of it. URLs and Topic are needed; everything else has a
// useful zero value.
type LogConfig struct {
	// URLs, TLS, ConnectionName, ConnectTimeout and Logger are as in [Config].
	URLs           []string
	TLS            *tls.Config
	ConnectionName string
	ConnectTimeout time.Duration
	Logger         *slog.Logger
	// Topic is the topic whose log is read: the stream topology.LogStream(Topic).
	Topic string
	// Declare is declared on every new connection. Default: nothing.
	Declare topology.Resources
	// From is the first event that is wanted. Default: the oldest there is. A moment leaves out what
	// happened before it, of what is in the log when reading begins.
	From LogPosition
	// To is the first event that is not wanted any more: an offset or a moment. Default: the end that
	// the log has when reading begins.
	To LogPosition
	// Follow goes on with what is published after the end that the log had when reading began. To is
	// not used then.
	Follow bool
	// Subscribed, if set, is told when reading from the broker begins and when it is interrupted.
	Subscribed func(bool)
	// Gap, if set, is told of offsets that were asked for and are in the log no longer, since it has
	// grown beyond its limits: from the first to the last, both included. It is logged as well.
	Gap func(from, to int64)
}

func (c LogConfig) withDefaults() (LogConfig, error) {
	c.ConnectionName = cmp.Or(c.ConnectionName, "evdemo log reader")
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, DefaultConnectTimeout)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Subscribed == nil {
		c.Subscribed = func(bool) {}
	}
	if c.Gap == nil {
		c.Gap = func(_, _ int64) {}
	}
	var errs []error
	if c.Topic == "" {
		errs = append(errs, errors.New("give a topic"))
	}
	if c.To != (LogPosition{}) && c.To.kind != logOffset && c.To.kind != logTime {
		errs = append(errs, fmt.Errorf("a log is read to an offset or a moment, not to %q", c.To))
	}
	if c.ConnectTimeout < 0 {
		errs = append(errs, errors.New("connect timeout is negative"))
	}
	errs = append(errs, c.session().Check())
	return c, errors.Join(errs...)
}

func (c LogConfig) session() session.Config {
	return session.Config{URLs: c.URLs, TLS: c.TLS, Name: c.ConnectionName, Logger: c.Logger}
}

// Entry is one event in the log of a topic.
type Entry struct {
	// Delivery is the event. Its queue is the log.
	*Delivery
	// Offset is its place in the log. Offsets grow; they need not be without gaps.
	Offset int64

	print uint64
}

// Time is when the event happened: its own time, or the message's where it has none. It is zero where
// nothing says. An event without a time is within every span of time.
func (e *Entry) Time() time.Time {
	if at := e.Event.Time; !at.IsZero() {
		return at
	}
	return e.message.Timestamp
}

// Fingerprint tells this entry from another one at the same offset, as in a log that was made anew.
func (e *Entry) Fingerprint() string { return fingerprintText(e.print) }

// fingerprint is made before anybody can write to the message's body.
func fingerprint(m *amqp.Delivery) uint64 {
	hash := fnv.New64a()
	_, _ = io.WriteString(hash, m.MessageId)
	_, _ = hash.Write([]byte{0})
	_, _ = hash.Write(m.Body)
	return hash.Sum64()
}

func fingerprintText(sum uint64) string { return fmt.Sprintf("%016x", sum) }

// Message gives the entry as a message that goes where it went: the event with the message's own
// headers, or the raw message where that would not be all of it, as for one that is no event.
func (e *Entry) Message() publisher.Message {
	to := publisher.Destination{Exchange: e.Exchange, RoutingKey: e.RoutingKey}
	if e.whole() {
		m := publisher.Message{Event: e.Event, Headers: maps.Clone(e.Headers), To: to}
		delete(m.Headers, "CC")
		delete(m.Headers, "BCC")
		return m
	}
	headers := Cleared(e.message.Headers)
	delete(headers, headerStreamOffset)
	return publisher.Message{Raw: rawMessage(e.message, headers), To: to}
}

// ReadLog gives handle the events of a topic's log, one after the other in the log's order, and takes
// nothing away from it. It returns nil when the end has been reached or ctx has ended; the error of
// handle, which ends the reading; or why the log cannot be read: the error wraps [ErrNoLog] where there
// is none.
//
// When the connection is lost it is dialled again for as long as it takes, and reading goes on with
// the event after the last that handle was given: each event comes once. Only what the log itself has
// dropped meanwhile is missing, and told.
func ReadLog(ctx context.Context, config LogConfig, handle func(context.Context, *Entry) error) error {
	config, err := config.withDefaults()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	r := &logReader{LogConfig: config, queue: topology.LogStream(config.Topic), next: -1, given: config.From.after != ""}
	r.handle = func(e *Entry) error { return handle(ctx, e) }
	first, err := session.DialWithin(ctx, r.session(), r.ConnectTimeout)
	if err == nil {
		err = session.Keep(ctx, r.session(), first, r.read)
	}
	if failed, ok := errors.AsType[*handleError](err); ok {
		return failed.err
	}
	if ctx.Err() != nil {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("read log of topic %s: %w", config.Topic, err)
	}
	return err
}

// Replayed gives headers for an event that is sent again from a log or a file: [Cleared], and marked
// with the time.
func Replayed(headers map[string]any, at time.Time) map[string]any {
	marked := Cleared(headers)
	delete(marked, headerStreamOffset)
	marked[headerReplayed] = at.UTC().Format(time.RFC3339Nano)
	return marked
}
