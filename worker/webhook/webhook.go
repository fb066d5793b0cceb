package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/evdemo/evdemo/internal/telemetry/tracecontext"
	"github.com/evdemo/evdemo/worker"
)

const (
	// DefaultTimeout bounds an attempt whose context has no deadline.
	DefaultTimeout = 30 * time.Second

	userAgent = "evdemo"

	headerAttempt   = "Evdemo-Attempt"
	headerUserAgent = "User-Agent"

	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second
	maxAnswerHeader  = 64 << 10
)

// Config says where events are posted to, and how. URL is required.
type Config struct {
	// URL is an http or https URL. Its user and password are sent as basic authentication, and
	// never printed; no more is its query, nor its path.
	URL string
	// Headers are sent with every event. The names that [ParseHeader] refuses are refused here as
	// well. Host is the host that the service is asked for, in place of the URL's. Authorization
	// takes the place of the URL's user and password, and User-Agent that of evdemo.
	Headers http.Header
	// Secret signs every request as Standard Webhooks have it: base64, with or without whsec_
	// before it; white space around it does not count. Empty does not sign.
	Secret string
	// Concurrency is how many events are posted at a time: so many connections are kept open
	// between them. Default (0) 1. More at a time is no error, and takes new connections.
	Concurrency int
	// Timeout bounds an attempt whose context has no deadline. Default (0) 30 s.
	Timeout time.Duration
	// TLS is for https; nil trusts the system's certificates.
	TLS *tls.Config
}

// Poster posts events. Make one with [New]. It may be used from several goroutines.
type Poster struct {
	url       string      // without user and fragment
	target    string      // what the URL is called in messages
	header    http.Header // sent with every event
	host      string
	signer    *standardwebhooks.Webhook // nil does not sign
	timeout   time.Duration
	private   *redactor
	transport *http.Transport
}

// New makes a poster. It opens no connection yet. Its error names all that is wrong with config.
func New(config Config) (*Poster, error) {
	target, urlErr := parseURL(config.URL)
	headerErr := checkHeaders(config.Headers)
	signer, secretErr := newSigner(config.Secret)
	if err := errors.Join(urlErr, headerErr, secretErr, config.validate()); err != nil {
		return nil, err
	}
	p := &Poster{
		target:    target.Scheme + "://" + target.Host,
		signer:    signer,
		timeout:   config.Timeout,
		transport: newTransport(config),
	}
	p.url, p.header, p.host = prepare(target, config.Headers)
	p.private = newRedactor(target, p.header)
	if p.timeout == 0 {
		p.timeout = DefaultTimeout
	}
	return p, nil
}

// validate finds what is wrong with the numbers.
func (c Config) validate() error {
	var errs []error
	if c.Concurrency < 0 {
		errs = append(errs, fmt.Errorf("concurrency %d: must not be negative", c.Concurrency))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout %v: must not be negative", c.Timeout))
	}
	return errors.Join(errs...)
}

// newTransport makes a client of its own, whose connections nobody else uses.
func newTransport(config Config) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config.TLS.Clone(),
		TLSHandshakeTimeout:    handshakeTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    max(config.Concurrency, 1),
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		DisableCompression:     true, // an answer is looked at, if at all, by people
	}
}

// Close closes the connections that no event is being posted on. The poster can still be used.
func (p *Poster) Close() { p.transport.CloseIdleConnections() }

// Handle posts one event; it is a [worker.Handler]. It returns nil where the status of the answer is
// 2xx, whatever becomes of the rest of the answer; what the other statuses mean see the package's
// comment. An error says the status and the first 300 bytes of the answer that can be printed, and
// neither what is secret in the URL nor the value of any of Config.Headers.
//
// An attempt ends with ctx, or after Config.Timeout where ctx has no deadline; its error then wraps
// the cause of ctx, or [worker.ErrTimeout]. Where the service has closed a connection that was kept
// open, the event is posted once more on another within the same attempt, since it cannot be told
// whether it was still read.
func (p *Poster) Handle(ctx context.Context, d *worker.Delivery) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("%w of %v", worker.ErrTimeout, p.timeout))
		defer cancel()
	}
	if err := p.post(ctx, d); err != nil {
		return fmt.Errorf("POST to %s: %w", p.target, err)
	}
	return nil
}

// post makes the request and reads the answer. What it marks as permanent, or with a delay, stays
// marked when it is wrapped.
func (p *Poster) post(ctx context.Context, d *worker.Delivery) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	request, err := p.request(reading, d)
	if err != nil {
		return worker.Permanent(err)
	}
	// Not through an http.Client: it would follow redirects, and put the whole URL into its errors.
	response, err := p.transport.RoundTrip(request)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return err
	}
	limit := time.AfterFunc(answerTime, stop)
	defer limit.Stop()
	return p.judge(response, readAnswer(response))
}

// request makes the request for one event.
func (p *Poster) request(ctx context.Context, d *worker.Delivery) (*http.Request, error) {
	header, body := d.Event.EncodeHTTP()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Host = p.host
	request.Header = header
	maps.Copy(request.Header, p.header)
	request.Header[headerAttempt] = []string{strconv.Itoa(d.Attempt)}
	// Without a value it is not sent: it only tells the client that it may send the request again.
	request.Header["Idempotency-Key"] = p.header["Idempotency-Key"]
	setTrace(ctx, request.Header, d)
	if p.signer != nil {
		err = p.sign(request.Header, d.Event, body)
	}
	return request, err
}

// setTrace sets the trace context.
func setTrace(ctx context.Context, header http.Header, d *worker.Delivery) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		published := tracecontext.Of(d.Event) //nolint:contextcheck // it is about the event
		if !published.IsValid() {
			return
		}
		ctx = trace.ContextWithSpanContext(ctx, published)
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
}
