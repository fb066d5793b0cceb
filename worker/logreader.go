package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/internal/session"
)

var (
	errLogEnd   = errors.New("the end of the log is reached")
	errNoStream = errors.New("is no stream: its messages have no offsets")
	errSilent   = errors.New("the broker does not send what the log holds")
)

// handleError is an error of the function that entries are handed to.
type handleError struct{ err error }

func (e *handleError) Error() string { return e.err.Error() }
func (e *handleError) Unwrap() error { return e.err }

// logReader is one reading of a log, over as many connections as it takes.
type logReader struct {
	LogConfig
	queue   string
	handle  func(*Entry) error
	settled bool   // From and the end no longer depend on the moment
	end     int64  // the log's last offset when reading began; unless it is followed, the last to be read
	next    int64  // the offset to go on with; -1 while none has been seen
	last    uint64 // the fingerprint of the entry before next
	given   bool   // the place to begin was known by its entry
}

// read reads over one session, with a new subscription each time the broker ends one. It returns nil at
// the end of the log.
func (r *logReader) read(ctx context.Context, s *session.Session) error {
	delays := session.NewBackOff()
	for {
		began := time.Now()
		tap, err := r.subscribe(ctx, s)
		begun := err == nil
		if begun {
			r.Logger.Info("consuming", slog.String("from", r.queue))
			r.Subscribed(true)
			err = r.follow(ctx, s, tap)
			r.Subscribed(false)
		}
		_, failed := errors.AsType[*handleError](err)
		switch {
		case errors.Is(err, errLogEnd):
			return nil
		case failed, errors.Is(err, errNoStream), errors.Is(err, ErrBeyondLog):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.Err() != nil:
			return s.Err()
		case !begun && !errors.Is(err, errCancelled) && !errors.Is(err, errSilent) && setupError(err) != nil:
			return explainNoLog(setupError(err))
		case time.Since(began) > steady:
			delays.Reset()
		}
		tap.close()
		r.Logger.Warn("broker ended the subscription; subscribing again", slog.String("from", r.queue), slog.Any("error", err))
		if !pause(ctx, delays.NextBackOff()) {
			return context.Cause(ctx)
		}
	}
}

func explainNoLog(err error) error {
	if errors.Is(err, ErrQueueGone) {
		return fmt.Errorf(`%w: give it one with "log: true" in the topology file`, ErrNoLog)
	}
	return err
}

// subscribe starts a consumer at the place where reading is to go on. The end of the log is an error.
func (r *logReader) subscribe(ctx context.Context, s *session.Session) (*logTap, error) {
	// A broker that is silent answers none of the calls below, and nothing is in hand yet.
	defer context.AfterFunc(ctx, s.Abort)()
	if err := r.Declare.Apply(ctx, s); err != nil {
		return nil, err
	}
	if err := r.settle(ctx, s); err != nil {
		return nil, err
	}
	from := r.From
	if r.next >= 0 {
		from = LogOffset(r.next)
		from.after = fingerprintText(r.last)
	}
	if same, err := r.recognise(ctx, s, from); err != nil {
		return nil, err
	} else if !same {
		if r.next < 0 && r.given || !r.Follow {
			return nil, fmt.Errorf("%w: it was made anew, and offset %d is another event than it was", ErrBeyondLog, from.offset-1)
		}
		r.Logger.Warn("the log was made anew; reading it from its beginning", slog.String("log", r.queue))
		r.next, from = -1, LogFirst()
		r.From = from
	}
	if !r.Follow && (r.end < 0 || from.kind == logOffset && from.offset > r.end) {
		return nil, errLogEnd
	}
	tap, err := openTap(s, r.queue, r.ConnectionName, from)
	if err != nil {
		return nil, err
	}
	level := slog.LevelDebug
	if r.Follow {
		level = slog.LevelInfo
	}
	r.Logger.Log(ctx, level, "reading", slog.String("log", r.queue), slog.String("from", from.String()))
	return tap, nil
}

// recognise tells whether the entry before a place is the one that is known of it: if it is not, the log was
// made anew. Where the log has dropped that entry nothing speaks against it.
func (r *logReader) recognise(ctx context.Context, s *session.Session, from LogPosition) (bool, error) {
	if from.after == "" || from.offset == 0 {
		return true, nil
	}
	before := from.offset - 1
	tap, err := openTap(s, r.queue, r.ConnectionName+" again", LogOffset(before))
	if err != nil {
		return false, err
	}
	defer tap.close()
	select {
	case m, ok := <-tap.deliveries:
		if !ok {
			return false, tap.why()
		}
		got, err := offsetOf(r.queue, &m)
		if err != nil {
			return false, err
		}
		return got > before || got == before && fingerprintText(fingerprint(&m)) == from.after, nil
	case <-time.After(logSilence):
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	end, _, err := logEnd(ctx, s, r.queue, r.ConnectionName)
	if err == nil && end >= before {
		err = errSilent
	}
	return false, err
}

// settle replaces what depends on the moment of asking, so that it is the same on the next connection. While
// nothing has been read up to an end, that is looked for anew.
func (r *logReader) settle(ctx context.Context, s *session.Session) error {
	if r.settled && (r.Follow || r.next >= 0) || r.Follow && r.From.kind == logFirst {
		return nil
	}
	end, sum, err := logEnd(ctx, s, r.queue, r.ConnectionName)
	if err != nil {
		return err
	}
	switch r.From.kind {
	case logLast:
		r.From = LogOffset(end)
	case logNext:
		if r.From = LogOffset(end + 1); end >= 0 {
			r.From = LogAfter(end, fingerprintText(sum))
		}
	default:
	}
	if r.From.kind == logOffset && r.From.offset > end+1 {
		return fmt.Errorf("%w: offset %d was asked for, and the next will be %d", ErrBeyondLog, r.From.offset, end+1)
	}
	if r.To.kind == logOffset {
		end = min(end, r.To.offset-1)
	}
	r.end, r.settled = end, true
	return nil
}

// follow hands on what comes.
func (r *logReader) follow(ctx context.Context, s *session.Session, tap *logTap) error {
	silence := time.NewTimer(logSilence)
	defer silence.Stop()
	expected := int64(-1)
	if tap.from.kind == logOffset {
		expected = tap.from.offset
	}
	for first := true; ; first = false {
		select {
		case m, ok := <-tap.deliveries:
			if !ok {
				return tap.why()
			}
			offset, err := offsetOf(r.queue, &m)
			if err != nil {
				return err
			}
			r.compare(expected, offset)
			expected = offset + 1
			if err := r.take(&m, offset); err != nil {
				return err
			}
			if err := tap.done(m.DeliveryTag); err != nil {
				return err
			}
		case <-silence.C:
			// Where the log ends before a moment, nothing comes that could tell. That it is not the
			// broker which is slow shows when it answers for the end.
			if first && !r.Follow && tap.from.kind == logTime {
				_, _, err := logEnd(ctx, s, r.queue, r.ConnectionName)
				return cmp.Or(err, errLogEnd)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// compare tells of what the log has dropped before it could be read. A stream leaves out one offset by itself
// where it begins a new file.
func (r *logReader) compare(expected, got int64) {
	if expected < 0 || got <= expected+1 {
		return
	}
	r.Logger.Warn("the log no longer holds what was to be read",
		slog.String("log", r.queue), slog.Int64("from", expected), slog.Int64("to", got-1))
	r.Gap(expected, got-1)
}

// take hands one entry on, if it is wanted. The end of the log is an error.
func (r *logReader) take(m *amqp.Delivery, offset int64) error {
	if !r.Follow && offset > r.end {
		return errLogEnd
	}
	e := &Entry{Delivery: decode(r.queue, m), Offset: offset, print: fingerprint(m)}
	if r.within(e) {
		if err := r.handle(e); err != nil {
			return &handleError{err}
		}
	}
	r.next, r.last = offset+1, e.print
	if !r.Follow && offset == r.end {
		return errLogEnd
	}
	return nil
}

// within tells whether an entry is in the span of time that is wanted.
func (r *logReader) within(e *Entry) bool {
	at := e.Time()
	switch {
	case at.IsZero():
		return true
	case r.From.kind == logTime && e.Offset <= r.end && at.Before(r.From.at):
		return false
	default:
		return r.Follow || r.To.kind != logTime || at.Before(r.To.at)
	}
}

func offsetOf(queue string, m *amqp.Delivery) (int64, error) {
	offset, ok := m.Headers[headerStreamOffset].(int64)
	if !ok {
		return 0, fmt.Errorf("queue %s %w", queue, errNoStream)
	}
	return offset, nil
}

// logTap is one consumer of a stream on a channel of its own.
type logTap struct {
	from       LogPosition
	channel    *amqp.Channel
	deliveries <-chan amqp.Delivery
	closed     <-chan *amqp.Error
	unacked    int
}

func openTap(s *session.Session, queue, name string, from LogPosition) (*logTap, error) {
	ch, err := s.Channel()
	if err != nil {
		return nil, err
	}
	tap := &logTap{from: from, channel: ch, closed: ch.NotifyClose(make(chan *amqp.Error, 1))}
	if err = ch.Qos(logPrefetch, 0, false); err == nil {
		tap.deliveries, err = ch.Consume(queue, consumerTag(name, ""), false, false, false, false,
			amqp.Table{"x-stream-offset": from.argument()})
	}
	if err != nil {
		tap.close()
		return nil, fmt.Errorf("read %s from %s: %w", queue, from, err)
	}
	return tap, nil
}

// done lets the broker send more. It takes nothing from the log.
func (t *logTap) done(tag uint64) error {
	if t.unacked++; t.unacked < logAckEvery {
		return nil
	}
	t.unacked = 0
	return t.channel.Ack(tag, true)
}

// why is the reason for which the deliveries ended.
func (t *logTap) why() error {
	select {
	case reply := <-t.closed:
		if reply != nil {
			return reply
		}
		return amqp.ErrClosed
	default:
		return errCancelled
	}
}

func (t *logTap) close() {
	if t != nil {
		_ = t.channel.Close()
	}
}

// logEnd is the offset of a log's newest entry with its fingerprint, -1 for an empty log. Whatever was
// confirmed before the call is not after it.
func logEnd(ctx context.Context, s *session.Session, queue, name string) (end int64, sum uint64, err error) {
	tap, err := openTap(s, queue, name+" end", LogLast())
	if err != nil {
		return 0, 0, err
	}
	defer tap.close()
	end = -1
	var newest amqp.Delivery
	began := time.Now()
	patience := time.NewTimer(logEmptyAfter)
	defer patience.Stop()
	for {
		select {
		case m, ok := <-tap.deliveries:
			if !ok {
				return 0, 0, tap.why()
			}
			if end, err = offsetOf(queue, &m); err != nil {
				return 0, 0, err
			}
			newest = m
			if err := tap.done(m.DeliveryTag); err != nil {
				return 0, 0, err
			}
			if time.Since(began) > logEmptyAfter { // there is always a newer one, and what there was has come
				return end, fingerprint(&newest), nil
			}
			patience.Reset(logQuiet)
		case <-patience.C:
			if end >= 0 {
				return end, fingerprint(&newest), nil
			}
			if empty, err := tap.empty(queue); err != nil || empty {
				return -1, 0, err
			}
			if time.Since(began) > logProbeLimit {
				return 0, 0, fmt.Errorf("read %s: %w", queue, errSilent)
			}
			patience.Reset(logQuiet)
		case <-ctx.Done():
			return 0, 0, context.Cause(ctx)
		}
	}
}

// empty tells whether the broker knows of no messages, which may be some seconds old.
func (t *logTap) empty(queue string) (bool, error) {
	q, err := t.channel.QueueDeclarePassive(queue, true, false, false, false, nil)
	return q.Messages == 0, err
}
