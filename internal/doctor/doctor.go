// Package doctor checks the way to a broker step by step, from the name to a confirmed round
// trip, and says at the first step that fails what to do about it.
package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/evdemo/evdemo/internal/session"
)

// Status is the result of a step.
type Status string

// The results of a step. Steps behind a failed one are skipped.
const (
	OK      Status = "ok"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Check is one step.
type Check struct {
	// Step is name, tcp, tls, login, vhost, permissions, round trip or alarms.
	Step   string `json:"step"`
	Status Status `json:"status"`
	// Detail says what was found.
	Detail string `json:"detail,omitempty"`
	// Advice says what to do, where the step failed.
	Advice string `json:"advice,omitempty"`
}

// Diagnosis is what was found on the way to one broker URL.
type Diagnosis struct {
	// URL is without its password.
	URL    string  `json:"url"`
	Checks []Check `json:"checks"`
	// Healthy is true where every step is ok or not needed.
	Healthy bool `json:"healthy"`
}

// roundTripLimit bounds the last steps; a blocked connection answers nothing.
const roundTripLimit = 5 * time.Second

// Examine walks the way to one URL. The timeout bounds each step over the network.
func Examine(ctx context.Context, url string, config *tls.Config, timeout time.Duration) Diagnosis {
	e := &examination{Diagnosis: Diagnosis{URL: session.Redact(url)}, timeout: timeout}
	if e.network(ctx, url) {
		e.broker(ctx, session.Config{URLs: []string{url}, TLS: config, Name: "evdemo doctor", DialTimeout: timeout})
	}
	e.Healthy = true
	for i, step := range []string{"name", "tcp", "tls", "login", "vhost", "permissions", "round trip", "alarms"} {
		if i == len(e.Checks) {
			e.Checks = append(e.Checks, Check{Step: step, Status: Skipped})
		}
		e.Healthy = e.Healthy && e.Checks[i].Status != Failed
	}
	return e.Diagnosis
}

type examination struct {
	Diagnosis
	timeout time.Duration
}

func (e *examination) ok(step, format string, args ...any) {
	e.Checks = append(e.Checks, Check{Step: step, Status: OK, Detail: fmt.Sprintf(format, args...)})
}

func (e *examination) fail(step string, err error, advice string) bool {
	e.Checks = append(e.Checks, Check{Step: step, Status: Failed, Detail: err.Error(), Advice: advice})
	return false
}

// network checks name and TCP.
func (e *examination) network(ctx context.Context, url string) bool {
	host, port, err := session.HostPort(url)
	if err != nil {
		return e.fail("name", err, "write the URL as amqp://user:password@host:5672/vhost")
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return e.fail("name", err, "check the host in the URL, and the name server")
	}
	e.ok("name", "%s is %s", host, strings.Join(addresses, ", "))
	began := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return e.fail("tcp", err, fmt.Sprintf("check that a broker listens on port %s there, and that no firewall is in between; "+
			"\"evdemo broker start\" gives you one on this machine", port))
	}
	_ = conn.Close()
	e.ok("tcp", "port %s answers in %v", port, rounded(time.Since(began)))
	return true
}

// broker checks everything from TLS on.
func (e *examination) broker(ctx context.Context, config session.Config) {
	s, err := session.Dial(ctx, config)
	if err != nil {
		e.dialFailed(err, config)
		return
	}
	defer s.Close()
	e.tlsOK(config)
	e.ok("login", "%s lets the user in", s.ServerVersion())
	e.ok("vhost", "%s is there", session.VirtualHost(config.URLs[0]))
	ctx, cancel := context.WithTimeout(ctx, min(roundTripLimit, e.timeout))
	defer cancel()
	took, err := s.RoundTrip(ctx)
	switch {
	case err == nil:
		e.ok("permissions", "the user may declare, write and read")
		e.ok("round trip", "a message was confirmed and came back in %v", rounded(took))
		e.ok("alarms", "none: the broker accepts publishing")
	case errors.Is(err, session.ErrPermission):
		e.fail("permissions", err, "give the user configure, write and read on this virtual host: rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'")
	case errors.Is(err, session.ErrBlocked):
		e.ok("permissions", "the user may declare, write and read")
		e.Checks = append(e.Checks, Check{Step: "round trip", Status: Skipped})
		e.fail("alarms", err, "the broker is short of memory or disk: consume what has piled up or give it more; rabbitmq-diagnostics alarms tells")
	default:
		e.ok("permissions", "the user may declare, write and read")
		e.fail("round trip", err, "look into the broker's log")
	}
}

// dialFailed sorts a failed dial into the step that it belongs to.
func (e *examination) dialFailed(err error, config session.Config) {
	step := "login"
	if failed, ok := errors.AsType[*session.DialError](err); ok {
		err = failed.Err
		switch failed.Step {
		case "tls":
			e.fail("tls", err, "check the CA (--tls-ca), the host name in the certificate, and that this is the broker's TLS port (usually 5671)")
			return
		case "vhost":
			step = "vhost"
		case "open":
			e.tlsOK(config)
			e.fail("login", fmt.Errorf("no AMQP handshake: %w", err), "check that this is the port where the broker speaks AMQP "+
				"(usually 5672, or 5671 with amqps://; 15672 is its web page), and that the broker is not overloaded")
			return
		}
	}
	e.tlsOK(config)
	if step == "vhost" {
		e.ok("login", "the broker knows the user")
		e.fail(step, err, "check the path of the URL (the default virtual host is /); rabbitmqctl list_vhosts tells which there are, list_permissions who may use them")
		return
	}
	e.fail(step, err, "check user and password in the URL (special characters percent-encoded); the user guest may log in from the broker's own machine only")
}

func (e *examination) tlsOK(config session.Config) {
	if strings.HasPrefix(config.URLs[0], "amqps:") {
		e.ok("tls", "the broker's certificate is accepted")
		return
	}
	e.Checks = append(e.Checks, Check{Step: "tls", Status: Skipped, Detail: "not used by amqp://"})
}

func rounded(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
