package session

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	// ErrUnreachable reports that no broker answered: refused, timed out, unknown host, not
	// AMQP, or a failed TLS handshake. It may pass by itself; Keep goes on trying.
	ErrUnreachable = errors.New("broker unreachable")
	// ErrLogin reports that the broker answered and refused: wrong user or password, no such
	// virtual host, or no permission for it. Trying again does not help before somebody
	// changes something.
	ErrLogin = errors.New("broker refuses the login")
	// ErrURL reports a broker URL that cannot be used. Nothing was dialled.
	ErrURL = errors.New("invalid broker URL")
	// ErrEnded reports the use of a session whose connection is gone.
	ErrEnded = errors.New("connection to the broker has ended")

	errLostInLogin = errors.New("the connection was lost during the login")
)

// DialError tells which step of a dial failed at which address. It never holds a password.
type DialError struct {
	// Addr is the URL without its password.
	Addr string
	// Step is one of resolve, connect, tls, login, vhost, open.
	Step string
	// Kind is ErrUnreachable or ErrLogin.
	Kind error
	// Err is the cause as the system, the TLS library or the broker gave it.
	Err error
}

// Error says where, at which step, why, and what to look at.
func (e *DialError) Error() string {
	return fmt.Sprintf("%s: %v: %s: %v%s", e.Addr, e.Kind, e.Step, e.Err, e.advice())
}

// Unwrap lets errors.Is find the kind and the cause.
func (e *DialError) Unwrap() []error { return []error{e.Kind, e.Err} }

func (e *DialError) advice() string {
	switch e.Step {
	case "login":
		return "; check the user and the password in the URL"
	case "vhost":
		return "; check the virtual host (the path of the URL) and the user's permissions on it"
	case "tls":
		return "; check the CA, the client certificate and key, and that this is the broker's TLS port"
	default:
		return ""
	}
}

// dialError sorts the cause of a failed dial.
func dialError(addr, step string, err error) *DialError {
	e := &DialError{Addr: addr, Step: step, Kind: ErrUnreachable, Err: err}
	var dns *net.DNSError
	var reply *amqp.Error
	switch {
	case errors.As(err, &dns):
		e.Step = "resolve"
	case isTLS(err):
		e.Step = "tls"
	case errors.As(err, &reply):
		e.sortReply(reply)
	}
	return e
}

// refusalDelay is less than the three seconds for which RabbitMQ is silent before it closes a
// connection whose user or password is wrong (SILENT_CLOSE_DELAY in its rabbit_reader).
const refusalDelay = 2500 * time.Millisecond

// handshakeError tells a connection that was lost during the login from a refused one. The client
// gives a refusal of its own making for both. But RabbitMQ answers a virtual host that it refuses,
// and for a user that it refuses the client asks for no answer, and gets a late end.
func handshakeError(err error, sinceHeard time.Duration) error {
	if errors.Is(err, amqp.ErrVhost) || errors.Is(err, amqp.ErrCredentials) && sinceHeard < refusalDelay {
		return errLostInLogin
	}
	return err
}

func (e *DialError) sortReply(reply *amqp.Error) {
	switch {
	case errors.Is(reply, amqp.ErrCredentials), reply.Code == amqp.AccessRefused && e.Step == "open" && !reply.Server:
		e.Step, e.Kind = "login", ErrLogin
	case reply.Code == amqp.NotAllowed, reply.Code == amqp.AccessRefused:
		e.Step, e.Kind = "vhost", ErrLogin
	case errors.Is(reply, amqp.ErrSASL):
		e.Step, e.Kind = "login", ErrLogin
	}
}

func isTLS(err error) bool {
	var record tls.RecordHeaderError
	var cert *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var alert tls.AlertError
	return errors.As(err, &record) || errors.As(err, &cert) || errors.As(err, &authority) ||
		errors.As(err, &host) || errors.As(err, &alert)
}
