package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
)

const (
	// letterWindow is how many dead letters the broker sends ahead at least, and mostWindows how many
	// windows there are at most. A window bounds the memory that a visit takes, together with the
	// size of the letters. The broker puts back what was shown to up to 32 consumers in its order;
	// with more it does not.
	letterWindow = 500
	mostWindows  = 30
	// letterSilence is how long the next letter may take before a visit looks whether there is one,
	// and letterTick how often it looks meanwhile whether the window is used up.
	letterSilence = 2 * time.Second
	letterTick    = 100 * time.Millisecond
	// backWithin bounds the wait until the broker has put back what stays.
	backWithin = 5 * time.Second
	backTick   = 5 * time.Millisecond
	// visitEnd bounds the wait for outcomes once a visit was stopped.
	visitEnd = 10 * time.Second
)

// DeadLetters visits the dead letters of queues. URLs are needed; everything else has a useful zero
// value. It may be used by several goroutines, as long as they visit different queues: a letter that
// one visit holds is not there for another.
type DeadLetters struct {
	// URLs, TLS, ConnectionName, ConnectTimeout and Logger are as in [Config].
	URLs           []string
	TLS            *tls.Config
	ConnectionName string
	ConnectTimeout time.Duration
	Logger         *slog.Logger
	// Failed, if set, is called for each letter that was to be redriven and did not get through.
	// It stays where it is. Calls come one at a time.
	Failed func(*Letter, error)
}

// Letter is one dead letter.
type Letter struct {
	// Delivery is the event, as a worker on the dead-letter queue would see it.
	*Delivery
	// Failure is the history that it carries.
	Failure Failure
}

// whole tells whether the event and the message's own headers are all that there is to the message.
func (d *Delivery) whole() bool {
	m := d.message
	_, ours := m.Headers["ce-specversion"]
	return d.Foreign == nil && ours && m.AppId == "" && m.ReplyTo == "" && m.Priority == 0 && m.ContentEncoding == "" &&
		m.CorrelationId == d.Event.CorrelationID() && m.ContentType == d.Event.DataContentType
}

// Message gives the letter as a message that starts afresh, with its history taken out: the event
// with the message's own headers, or the raw message where that would not be all of it, as for one
// that is no event.
func (l *Letter) Message() publisher.Message {
	m := publisher.Message{To: publisher.ToQueue(l.Failure.OriginQueue(l.Queue))}
	if l.whole() {
		m.Event, m.Headers = l.Event, maps.Clone(l.Headers)
		delete(m.Headers, "CC")
		delete(m.Headers, "BCC")
		return m
	}
	headers := make(map[string]any, len(l.message.Headers))
	for name, value := range Cleared(l.message.Headers) {
		if name != headerExchange && name != headerRoutingKey && name != headerRedrives {
			headers[name] = value
		}
	}
	m.Raw = rawMessage(l.message, headers)
	return m
}

// Action is what a visit does with a letter. The zero value leaves it where it is.
type Action struct {
	take bool
	to   string
}

// Keep leaves a letter where it is.
func Keep() Action { return Action{} }

// Discard takes a letter out of its queue for good.
func Discard() Action { return Action{take: true} }

// Redrive sends a letter to a queue with its attempts at zero: see [Redriven]. It is taken out of
// the dead-letter queue once the broker has confirmed that it is in the other.
func Redrive(queue string) Action { return Action{take: true, to: queue} }

// Visited is the account of a visit: Seen = Kept + Discarded + Redriven + Failed + Unknown.
type Visited struct {
	// Total is how many letters there were at the beginning. A visit meets no others.
	Total int `json:"total"`
	Seen  int `json:"seen"`
	Kept  int `json:"kept"`
	// Discarded and Redriven have been taken out of the queue.
	Discarded int `json:"discarded"`
	Redriven  int `json:"redriven"`
	// Failed counts letters that were to be redriven and were returned or refused. They stay.
	Failed int `json:"failed"`
	// Unknown counts those for which no answer came before the visit had to end. They stay, and may
	// be in the other queue as well.
	Unknown int `json:"unknown"`
}

// Visit shows decide the letters of a dead-letter queue in their order and does with each what it
// answers. Only the letters that are there when the visit begins are met: what comes back meanwhile
// is not taken a second time.
//
// What is kept stays in its place, also if this process is killed meanwhile. While a visit lasts, the broker holds back from other consumers
// what it has shown, and each visit counts as a delivery; dead-letter queues declared by package
// topology have as good as no limit for that.
//
// The visit ends early, and without an error, when ctx does; what was under way is waited for. An
// error of decide ends it likewise and is returned. When the connection is lost, the error wraps
// ErrConnectionLost: all that was not yet taken out stays, and a letter that was redriven at that
// moment may be in both queues. The error wraps ErrQueueGone where there is no such queue.
func (c DeadLetters) Visit(ctx context.Context, queue string, decide func(*Letter) (Action, error)) (Visited, error) {
	config := session.Config{URLs: c.URLs, TLS: c.TLS, Name: c.name(), Logger: c.Logger}
	s, err := session.DialWithin(ctx, config, c.timeout())
	if err != nil {
		return Visited{}, fmt.Errorf("visit %s: %w", queue, err)
	}
	defer s.Close()
	// A broker that is silent answers nothing: some time after the end of ctx nobody waits for it.
	defer context.AfterFunc(ctx, func() { time.AfterFunc(visitEnd+backWithin, s.Abort) })()
	while, end := context.WithCancel(ctx) // the session: what it has shown is nobody's after it
	defer end()
	go func() { // ends with the visit
		select {
		case <-s.Done():
			end()
		case <-while.Done():
		}
	}()
	v := &visit{config: c, queue: queue, session: s, decide: decide}
	defer v.close(while)
	if err = v.begin(); err == nil && v.Total > 0 {
		err = v.walk(while)
	}
	switch lost := s.Err(); {
	case lost != nil:
		err = fmt.Errorf("visit %s: %w: %w", queue, ErrConnectionLost, lost)
	case err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()):
		err = nil
	case err != nil:
		err = fmt.Errorf("visit %s: %w", queue, err)
	}
	return v.account(), err
}

func (c DeadLetters) name() string {
	if c.ConnectionName != "" {
		return c.ConnectionName
	}
	return "evdemo dead letters"
}

func (c DeadLetters) timeout() time.Duration {
	if c.ConnectTimeout > 0 {
		return c.ConnectTimeout
	}
	return DefaultConnectTimeout
}

// visit is one visit under way.
type visit struct {
	Visited

	config  DeadLetters
	queue   string
	session *session.Session
	decide  func(*Letter) (Action, error)
	channel *amqp.Channel
	acks    *acks

	cancelled <-chan string // the broker has ended a consumer
	ahead     int           // what the broker sends ahead
	windows   int
	to        *publisher.Publisher
	pending   sync.WaitGroup // letters that wait for their outcome

	mu                        sync.Mutex // held while config.Failed is called
	redriven, failed, unknown atomic.Int64
}

func (v *visit) begin() error {
	ch, err := v.session.Channel()
	if err != nil {
		return err
	}
	q, err := ch.QueueDeclarePassive(v.queue, true, false, false, false, nil)
	if reply, ok := errors.AsType[*amqp.Error](err); ok && reply.Code == amqp.NotFound {
		return fmt.Errorf("%w: %w", ErrQueueGone, err)
	}
	if err != nil {
		return err
	}
	v.channel, v.Total = ch, q.Messages
	v.cancelled = ch.NotifyCancel(make(chan string, mostWindows+1))
	if q.Consumers > 0 && v.config.Logger != nil {
		v.config.Logger.Warn("somebody else consumes this queue; the letters that they have in hand are not seen",
			slog.String("queue", v.queue), slog.Int("consumers", q.Consumers))
	}
	v.ahead = min(max(letterWindow, v.Total/mostWindows+1), maxPrefetch)
	v.acks = newAcks(ch, v.ahead, maxAckBatch, DefaultAckInterval)
	return nil
}

// walk goes through the letters, one window after the other. Each has a consumer of its own: what
// stays uses up its prefetch, so that the broker never sends more ahead than one window. The end of
// the channel puts all that stays back to where it was.
func (v *visit) walk(ctx context.Context) error {
	var err error
	for more := true; more && err == nil; {
		more, err = v.window(ctx)
	}
	v.await(ctx)
	flushed := v.acks.flush()
	if lost := v.acks.close(); err == nil && (flushed != nil || lost > 0) {
		err = fmt.Errorf("%d letters that were taken out are still there: %w", max(lost, 1), errLate)
	}
	if v.redriven.Load() > 0 || v.Discarded > 0 {
		select { // see linger
		case <-time.After(lingerLonger):
		case <-v.session.Done():
		}
	}
	return err
}

// window meets the letters of one consumer, until as many stay as it may have out: then it gets no more.
// It tells whether there are more. Nobody cancels it: the broker would give back at once what is on its
// way then, ahead of the letters that come before.
func (v *visit) window(ctx context.Context) (more bool, err error) {
	if err := v.channel.Qos(v.ahead, 0, false); err != nil {
		return false, err
	}
	// To a quorum queue a consumer with the tag of an earlier one is that one, with what it has out.
	v.windows++
	tag := fmt.Sprintf("evdemo dead letters %02d", v.windows)
	letters, err := v.channel.Consume(v.queue, tag, false, false, false, false, nil)
	if err != nil {
		return false, fmt.Errorf("consume from %s: %w", v.queue, err)
	}
	most := v.staying() + v.ahead
	for err == nil && ctx.Err() == nil && v.Seen < v.Total && v.staying() < most {
		m, ok := v.next(ctx, letters, most)
		if !ok {
			break
		}
		err = v.meet(ctx, &m)
	}
	select {
	case <-v.cancelled:
		return false, errors.Join(err, fmt.Errorf("%w: it was deleted meanwhile, or its node went down", ErrQueueGone))
	default:
		return err == nil && ctx.Err() == nil && v.Seen < v.Total && v.staying() >= most, err
	}
}

// staying counts the letters that are out and will not be taken: they use up the prefetch.
func (v *visit) staying() int { return v.Kept + int(v.failed.Load()+v.unknown.Load()) }

// next waits for a letter. There is none where as many stay as may be out, and where somebody else
// has taken what was left.
func (v *visit) next(ctx context.Context, letters <-chan amqp.Delivery, most int) (m amqp.Delivery, ok bool) {
	select {
	case m, ok = <-letters: // the usual case
		return m, ok
	default:
	}
	began := time.Now()
	tick := time.NewTicker(letterTick)
	defer tick.Stop()
	for v.staying() < most {
		select {
		case m, ok = <-letters:
			return m, ok
		case <-ctx.Done():
			return m, false
		case <-tick.C:
		}
		if time.Since(began) > letterSilence && v.nothingLeft() {
			return m, false
		}
	}
	return m, false
}

// nothingLeft tells whether no letter is in the queue or waits for its outcome.
func (v *visit) nothingLeft() bool {
	if v.to != nil && v.to.Stats().Sent > v.redriven.Load()+v.failed.Load()+v.unknown.Load() {
		return false
	}
	q, err := v.channel.QueueDeclarePassive(v.queue, true, false, false, false, nil)
	return err != nil || q.Messages == 0
}

// meet has decide look at a letter, and does what it says.
func (v *visit) meet(ctx context.Context, m *amqp.Delivery) error {
	v.Seen++
	l := &Letter{Delivery: decode(v.queue, m), Failure: ReadFailure(m.Headers)}
	l.Exchange, l.RoutingKey = l.Failure.Exchange, l.Failure.RoutingKey
	action, err := v.decide(l)
	switch {
	case err != nil || !action.take:
		v.Kept++
		return err
	case action.to == "":
		v.Discarded++
		return v.acks.ack(m.DeliveryTag)
	default:
		if err = v.redrive(ctx, l, action.to); err != nil {
			v.Kept++
		}
		return err
	}
}

// redrive publishes a letter to a queue.
func (v *visit) redrive(ctx context.Context, l *Letter, queue string) error {
	if v.to == nil {
		var err error
		v.to, err = publisher.Open(ctx, publisher.Config{
			URLs: v.config.URLs, TLS: v.config.TLS, ConnectionName: v.config.name(), ConnectTimeout: v.config.timeout(), Logger: v.config.Logger,
		})
		if err != nil {
			return err
		}
	}
	m := publisher.Message{Raw: rawMessage(l.message, Redriven(l.message.Headers, l.Failure)), To: publisher.ToQueue(queue)}
	v.pending.Add(1)
	err := v.to.Send(ctx, m, func(r publisher.Result) {
		defer v.pending.Done()
		v.outcome(l, r)
	})
	if err != nil {
		v.pending.Done()
	}
	return err
}

// outcome takes a letter out of its queue where the broker has it in the other.
func (v *visit) outcome(l *Letter, r publisher.Result) {
	switch r.Outcome {
	case publisher.Confirmed:
		if v.acks.ack(l.message.DeliveryTag) != nil { // the connection is lost: it is in both queues
			v.unknown.Add(1)
			return
		}
		v.redriven.Add(1)
		return
	case publisher.Unknown:
		v.unknown.Add(1)
	default:
		v.failed.Add(1)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.config.Failed != nil {
		err := r.Err
		if err == nil {
			err = errPassing
		}
		v.config.Failed(l, err)
	}
}

// await waits until every letter that was sent has its outcome: for a while only, where ctx has ended.
func (v *visit) await(ctx context.Context) {
	if v.to == nil {
		return
	}
	ending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(visitEnd, cancel) })()
	_ = v.to.Close(ending)
	v.pending.Wait()
}

// close puts what stays back, and waits until it is there: whoever looks next is to find it.
func (v *visit) close(ctx context.Context) {
	v.await(ctx)
	if v.channel == nil || v.channel.Close() != nil || v.staying() == 0 {
		return
	}
	ch, err := v.session.Channel()
	if err != nil {
		return
	}
	tick := time.NewTicker(backTick)
	defer tick.Stop()
	for deadline := time.Now().Add(backWithin); time.Now().Before(deadline); <-tick.C {
		q, err := ch.QueueDeclarePassive(v.queue, true, false, false, false, nil)
		if err != nil || q.Messages >= v.staying() || q.Consumers > 0 { // somebody else may have some of it
			return
		}
	}
}

func (v *visit) account() Visited {
	a := v.Visited
	a.Redriven, a.Failed, a.Unknown = int(v.redriven.Load()), int(v.failed.Load()), int(v.unknown.Load())
	return a
}
