package ingress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

// Path begins the paths that a [Handler] serves. The provider's name follows.
const Path = "/webhooks/"

// Names of the providers.
const (
	Stripe = "stripe"
	SMS    = "sms"
	Mail   = "mail"
)

// provider is who sends webhooks of one kind.
type provider struct {
	name   string
	scheme scheme
	// read makes a message of a body that is JSON, and signed with this claim.
	read func(body []byte, c claim) (*message, *problem.Problem)
}

// Handler takes webhooks in. Make one with [New]. It serves the paths below [Path] and answers 404 to all others. It may be
// used from several goroutines, starts none, and has nothing to be closed.
type Handler struct {
	store     *eventstore.Store
	providers map[string]provider
	tolerance time.Duration
	maxBody   int64
	timeout   time.Duration
	now       func() time.Time
	log       *slog.Logger
}

// New makes a handler. Its error names all that is wrong with config, and shows no secret.
func New(config Config) (*Handler, error) {
	stripe, stripeErr := newStripeScheme(config.Secrets.Stripe)
	sms, smsErr := newStandardScheme(SMS, config.Secrets.SMS)
	mail, mailErr := newStandardScheme(Mail, config.Secrets.Mail)
	if err := errors.Join(config.validate(), stripeErr, smsErr, mailErr); err != nil {
		return nil, err
	}
	c := config.withDefaults()
	h := &Handler{
		store: c.Store, providers: map[string]provider{}, tolerance: c.Tolerance, maxBody: c.MaxBody, timeout: c.Timeout,
		now: c.Now, log: c.Logger,
	}
	add := func(name string, secrets []string, s scheme, read func([]byte, claim) (*message, *problem.Problem)) {
		if len(secrets) > 0 {
			h.providers[name] = provider{name, s, read}
		}
	}
	add(Stripe, c.Secrets.Stripe, stripe, readStripe)
	add(SMS, c.Secrets.SMS, sms, readDelivery(SMS, typeSMSDelivered, shop.SMSConfirmed))
	add(Mail, c.Secrets.Mail, mail, readDelivery(Mail, typeEmailBounced, shop.EmailBounced))
	return h, nil
}

// receipt is the answer to what was taken.
type receipt struct {
	Status  string `json:"status"` // recorded, duplicate or ignored
	EventID string `json:"event_id,omitempty"`
	Type    string `json:"type"` // the provider's
}

const (
	statusRecorded  = "recorded"
	statusDuplicate = "duplicate"
	statusIgnored   = "ignored"
)

// ServeHTTP takes one webhook in. When it answers 2xx, the event is durable, or the answer says that it was ignored.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Before anything else, as the server reads on in the body of a request that is refused. A writer without a deadline has
	// no connection that could be slow.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.timeout))
	name, below := strings.CutPrefix(r.URL.Path, Path)
	p, known := h.providers[name]
	if !known || !below {
		problem.Write(w, r, http.StatusNotFound, "No such provider",
			"Webhooks are taken from "+Stripe+", "+SMS+" and "+Mail+", below "+Path+", where a secret is set for them.", nil)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		problem.Write(w, r, http.StatusMethodNotAllowed, "", "Webhooks are sent with POST.", nil)
		return
	}
	got, refused := h.take(w, r, p)
	if refused != nil {
		h.refuse(w, r, p, refused)
		return
	}
	h.log.LogAttrs(r.Context(), slog.LevelDebug, "webhook", slog.String("provider", name), slog.String("status", got.Status),
		slog.String("type", got.Type), slog.String("event", got.EventID))
	answer(w, got)
}

// refuse answers that a webhook was not taken, and why.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, p provider, refused *problem.Problem) {
	switch refused.Status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", p.scheme.String()+` realm="webhooks"`)
	case http.StatusRequestTimeout:
		w.Header().Set("Connection", "close")
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	}
	h.log.LogAttrs(r.Context(), slog.LevelWarn, "webhook refused", slog.String("provider", p.name),
		slog.Int("status", refused.Status), slog.String("reason", refused.Error()), slog.String("remote", r.RemoteAddr))
	refused.Write(w, r)
}

// answer writes the receipt.
func answer(w http.ResponseWriter, got receipt) {
	body, _ := json.Marshal(got) // strings always can be written
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if got.Status == statusIgnored {
		w.WriteHeader(http.StatusAccepted)
	}
	_, _ = w.Write(append(body, '\n')) // nobody is left to be told
}

// take verifies, reads and records a webhook. What costs least is looked at first.
func (h *Handler) take(w http.ResponseWriter, r *http.Request, p provider) (receipt, *problem.Problem) {
	if refused := checkMedia(r.Header); refused != nil {
		return receipt{}, refused
	}
	claimed, refused := h.claim(r.Header, p)
	if refused != nil {
		return receipt{}, refused
	}
	body, refused := h.body(w, r)
	if refused != nil {
		return receipt{}, refused
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // or r's context would end when it passes
	if !p.scheme.verify(claimed, body) {
		return receipt{}, &problem.Problem{
			Status: http.StatusUnauthorized, Title: "Wrong signature",
			Detail: "No secret that is set for this provider has signed this body, byte for byte, with this time.",
		}
	}
	if err := checkDocument(body); err != nil {
		return receipt{}, &problem.Problem{Status: http.StatusBadRequest, Title: "Not a JSON object", Detail: sentence(err)}
	}
	m, refused := p.read(body, claimed)
	switch {
	case refused != nil:
		return receipt{}, refused
	case m.ignored():
		return receipt{Status: statusIgnored, Type: m.kind}, nil
	default:
		return h.record(r.Context(), m)
	}
}

// checkMedia refuses what says that it is not JSON, or not as it was signed. What says nothing is looked at.
func checkMedia(header http.Header) *problem.Problem {
	if coding := header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return unsupported("Send the body without a Content-Encoding, as it was signed.")
	}
	text := header.Get("Content-Type")
	if text == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(text)
	if err != nil || media != "application/json" && !strings.HasSuffix(media, "+json") {
		return unsupported("Send JSON, with the Content-Type application/json.")
	}
	return nil
}

func unsupported(detail string) *problem.Problem {
	return &problem.Problem{Status: http.StatusUnsupportedMediaType, Detail: detail}
}

// claim reads what the headers claim, and refuses what is too old or too new.
func (h *Handler) claim(header http.Header, p provider) (claim, *problem.Problem) {
	claimed, err := p.scheme.claim(header)
	if err != nil {
		title := "Unreadable signature"
		if errors.Is(err, errNoSignature) {
			title = "No signature"
		}
		return claim{}, &problem.Problem{Status: http.StatusUnauthorized, Title: title, Detail: sentence(err)}
	}
	switch age := h.now().Sub(claimed.at); {
	case age > h.tolerance:
		return claim{}, untimely("It says that it was signed more than %v ago: sign it again, and compare the clocks.", h.tolerance)
	case age < -h.tolerance:
		return claim{}, untimely("It says that it was signed more than %v from now: compare the clocks.", h.tolerance)
	}
	return claimed, nil
}

func untimely(detail string, tolerance time.Duration) *problem.Problem {
	return &problem.Problem{Status: http.StatusUnauthorized, Title: "Time out of tolerance", Detail: fmt.Sprintf(detail, tolerance)}
}

// body reads the body.
func (h *Handler) body(w http.ResponseWriter, r *http.Request) ([]byte, *problem.Problem) {
	tooLarge := &problem.Problem{
		Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("A webhook may have %d bytes.", h.maxBody),
	}
	if r.ContentLength > h.maxBody {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.maxBody))
	_, over := errors.AsType[*http.MaxBytesError](err)
	switch {
	case err == nil:
		return body, nil
	case over:
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		detail := fmt.Sprintf("The body did not arrive within %v.", h.timeout)
		return nil, &problem.Problem{Status: http.StatusRequestTimeout, Detail: detail}
	default:
		const detail = "The body could not be read to its end."
		return nil, &problem.Problem{Status: http.StatusBadRequest, Title: "Broken body", Detail: detail}
	}
}

// record appends the event. The store adds nothing where it is there already.
func (h *Handler) record(ctx context.Context, m *message) (receipt, *problem.Problem) {
	ctx, stop := context.WithTimeout(ctx, h.timeout)
	defer stop()
	got := receipt{Status: statusRecorded, EventID: m.event.ID, Type: m.kind}
	done, err := h.store.Append(ctx, eventstore.StreamWrite{Stream: m.stream, Events: []event.Event{m.event}})
	_, other := errors.AsType[*eventstore.DuplicateError](err)
	_, invalid := errors.AsType[*eventstore.InvalidError](err)
	switch {
	case err == nil && done.Added > 0:
		return got, nil
	case invalid:
		return receipt{}, notTheMessage(fault{"", "does not make an event that can be stored"})
	case other:
		same, err := h.restated(ctx, m)
		if err != nil {
			return receipt{}, h.away(ctx, m, err)
		}
		if !same {
			return receipt{}, &problem.Problem{
				Status: http.StatusConflict, Title: "Another message has this id",
				Detail: "A message with this id was recorded before, and said something else. This one was not recorded.",
				Extra:  map[string]any{"event_id": m.event.ID},
			}
		}
	case err != nil:
		return receipt{}, h.away(ctx, m, err)
	}
	got.Status = statusDuplicate
	return got, nil
}

// restated tells whether what is recorded under a message's id says the same as the message, if not in the same words.
func (h *Handler) restated(ctx context.Context, m *message) (bool, error) {
	for recorded, err := range h.store.Read(ctx, eventstore.Query{Stream: m.stream, Limit: 1}) {
		if err != nil {
			return false, err
		}
		return recorded.Time.Equal(m.event.Time) && sameData(recorded.Data, m.event.Data), nil
	}
	return false, nil
}

// away is the problem of a store that cannot record a message now, or of which that is not known.
func (h *Handler) away(ctx context.Context, m *message, err error) *problem.Problem {
	h.log.LogAttrs(ctx, slog.LevelError, "webhook not recorded", slog.String("event", m.event.ID), slog.Any("error", err))
	detail := "The message was not recorded. Send it again."
	if errors.Is(err, eventstore.ErrOutcomeUnknown) {
		detail = "It is not known whether the message was recorded. Send it again: it will be recorded once."
	}
	return &problem.Problem{Status: http.StatusServiceUnavailable, Title: "The event store is away", Detail: detail}
}

// sentence is an error as a sentence.
func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
