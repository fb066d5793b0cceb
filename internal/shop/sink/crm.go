package sink

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/worker"
)

const (
	// DefaultCRMTimeout is how long the CRM may take to answer.
	DefaultCRMTimeout = 10 * time.Second

	crmConnections = 64
	// maxAnswer is how much of an answer is read, and maxRetryAfter the longest that one may ask for.
	maxAnswer     = 64 << 10
	maxRetryAfter = time.Hour
)

// CRMConfig says where the CRM is. URL is needed.
type CRMConfig struct {
	// URL is where it has its /customers, http or https.
	URL string
	// Timeout is how long it may take to answer. Default 10 s.
	Timeout time.Duration
}

// CRM tells a CRM over HTTP what customers have done: for each event that changes something it puts the change to
// /customers/{user_id}, together with the event's source and id. The CRM knows by those what it has been told before;
// [CRMServer] is one that does. The sink has no files of its own.
type CRM struct {
	base      string
	timeout   time.Duration
	transport *http.Transport
}

// CustomerChange is what an event adds to a customer, and the event. Spent is in cents, and negative for what was given
// back.
type CustomerChange struct {
	EventSource string `json:"event_source"`
	EventID     string `json:"event_id"`
	Placed      int    `json:"orders_placed,omitempty"`
	Shipped     int    `json:"orders_shipped,omitempty"`
	Cancelled   int    `json:"orders_cancelled,omitempty"`
	Spent       int    `json:"spent,omitempty"`
	Points      int    `json:"points,omitempty"`
}

// OpenCRM makes the sink. Nothing is sent yet.
func OpenCRM(_ context.Context, config CRMConfig) (*CRM, error) {
	var errs []error
	base, err := url.Parse(config.URL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.User != nil || base.RawQuery != "" {
		errs = append(errs, errors.New("URL: want http://HOST:PORT, or https, without user and query"))
	}
	if config.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout %v is negative", config.Timeout))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("open CRM: %w", err)
	}
	return &CRM{
		base: strings.TrimSuffix(config.URL, "/"), timeout: cmp.Or(config.Timeout, DefaultCRMTimeout),
		transport: &http.Transport{MaxIdleConnsPerHost: crmConnections, IdleConnTimeout: time.Minute},
	}, nil
}

// Name implements [Sink].
func (c *CRM) Name() string { return CRMName }

// Topics implements [Sink].
func (c *CRM) Topics() []string { return Topics(CRMName) }

// Handle implements [Sink]. The CRM's answer decides: 2xx is done, 429 and 503 are tried again when it says so, other 4xx
// never, and all else is tried again.
func (c *CRM) Handle(ctx context.Context, d *worker.Delivery) error {
	if err := admit(d); err != nil {
		return err
	}
	user, change, err := changeOf(d.Event)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, worker.ErrTimeout)
	defer cancel()
	err = c.put(ctx, user, change)
	if err == nil || errors.Is(err, worker.ErrDuplicate) {
		return err
	}
	return fmt.Errorf("CRM at %s: %w", c.base, err)
}

// changeOf says what an event adds to which customer; the error is worker.ErrSkip where that is nothing.
func changeOf(e event.Event) (user string, change CustomerChange, err error) {
	change.EventSource, change.EventID = e.Source, e.ID
	var add func(shop.Decision)
	switch e.Type {
	case shop.OrderCreated:
		add = func(shop.Decision) { change.Placed = 1 }
	case shop.OrderShipped:
		add = func(shop.Decision) { change.Shipped = 1 }
	case shop.OrderCancelled:
		add = func(shop.Decision) { change.Cancelled = 1 }
	case shop.PaymentProcessed:
		add = func(d shop.Decision) { change.Spent = d.Amount }
	case shop.PaymentRefunded:
		add = func(d shop.Decision) { change.Spent = -d.Amount }
	case shop.LoyaltyAwarded:
		add = func(d shop.Decision) { change.Points = d.Points }
	default:
		return "", change, worker.ErrSkip
	}
	d, err := decisionOf(e)
	if err != nil {
		return "", change, err
	}
	add(d)
	return d.Order.UserID, change, nil
}

// put makes the request and reads the answer.
func (c *CRM) put(ctx context.Context, user string, change CustomerChange) error {
	body, err := json.Marshal(change)
	if err != nil {
		return worker.Permanent(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+"/customers/"+url.PathEscape(user), bytes.NewReader(body))
	if err != nil {
		return worker.Permanent(err)
	}
	request.Header.Set("Content-Type", event.ContentTypeJSON)
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		if response.Header.Get(headerReplayed) == "true" {
			return worker.ErrDuplicate
		}
		return nil // its body adds nothing
	}
	return judgeAnswer(response, cut(strings.ToValidUTF8(string(text), ""), maxWords), err)
}

// headerReplayed is "true" in the answer to a change that was made before.
const headerReplayed = "Idempotency-Replayed"

// judgeAnswer says what an answer that is no success means.
func judgeAnswer(response *http.Response, text string, readErr error) error {
	err := errors.Join(fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(text)), readErr)
	switch status := response.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		seconds, parseErr := strconv.ParseInt(response.Header.Get("Retry-After"), 10, 64)
		if parseErr != nil || seconds <= 0 {
			return err
		}
		return worker.RetryAfter(min(time.Duration(min(seconds, 1<<20))*time.Second, maxRetryAfter), err)
	case status >= 400 && status < 500:
		return worker.Permanent(err)
	default:
		return err
	}
}

// Close implements [Sink].
func (c *CRM) Close(context.Context) error {
	c.transport.CloseIdleConnections()
	return nil
}
