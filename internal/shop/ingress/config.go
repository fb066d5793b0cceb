package ingress

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/evdemo/evdemo/eventstore"
)

// Defaults of Config.
const (
	DefaultTolerance       = 5 * time.Minute
	DefaultMaxBody   int64 = 256 << 10
	DefaultTimeout         = 10 * time.Second
)

// Config says what a handler needs. Store is required.
type Config struct {
	// Store is where the events are recorded.
	Store *eventstore.Store
	// Secrets are what the providers sign with. Without any the handler answers 404 to everything.
	Secrets Secrets
	// Tolerance is how far the time of a signature may be from Now, before it or behind it. Default 5 min.
	Tolerance time.Duration
	// MaxBody is the largest body that is read, in bytes. Default 256 KiB.
	MaxBody int64
	// Timeout bounds how long a body may take to arrive, whatever the server's own ReadTimeout, and after that how long the
	// store may take to record it. Default 10 s: providers give up after some 15 to 30.
	Timeout time.Duration
	// Now is the clock that signatures are held against. Default time.Now.
	Now func() time.Time
	// Logger is told of what is refused and why, never of bodies, headers or secrets. Default: nothing is logged.
	Logger *slog.Logger
}

// Secrets are the providers' secrets. Of several each is accepted, so that one can take the place of another without a
// message lost. A provider without any is not served. White space around a secret does not count.
//
// They are not shown where they are printed, logged or written as JSON.
type Secrets struct {
	// Stripe are signing secrets of Stripe's endpoints, as Stripe shows them: whsec_ and what follows.
	Stripe []string `json:"-"`
	// SMS and Mail are secrets of Standard Webhooks: at least 24 bytes as base64, with or without whsec_ before it.
	SMS  []string `json:"-"`
	Mail []string `json:"-"`
}

// String tells how many there are.
func (s Secrets) String() string {
	return fmt.Sprintf("%s: %d, %s: %d, %s: %d (not shown)", Stripe, len(s.Stripe), SMS, len(s.SMS), Mail, len(s.Mail))
}

// GoString tells how many there are.
func (s Secrets) GoString() string { return s.String() }

// LogValue tells how many there are.
func (s Secrets) LogValue() slog.Value { return slog.StringValue(s.String()) }

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	if c.Tolerance == 0 {
		c.Tolerance = DefaultTolerance
	}
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate finds what is wrong with all but the secrets.
func (c Config) validate() error {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("webhooks: no event store to record them in"))
	}
	if c.Tolerance < 0 {
		errs = append(errs, fmt.Errorf("webhooks: tolerance %v: must not be negative", c.Tolerance))
	}
	if c.MaxBody < 0 {
		errs = append(errs, fmt.Errorf("webhooks: largest body of %d bytes: must not be negative", c.MaxBody))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("webhooks: timeout %v: must not be negative", c.Timeout))
	}
	return errors.Join(errs...)
}
