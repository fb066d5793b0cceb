// Package webhook posts every event to a URL: a worker's handler for services that speak HTTP.
//
// An event is one POST in the binary content mode of the CloudEvents HTTP protocol binding 1.0.2: the
// data is the body, datacontenttype is Content-Type, and every other attribute is a header that
// begins with ce-. Besides these there are evdemo-attempt, 1 for an event that has not failed before;
// traceparent and tracestate, of the span of this attempt or else of the one that published the
// event; and, where there is a secret, the three headers of Standard Webhooks
// (https://www.standardwebhooks.com).
//
// The status of the answer decides, and nothing else does:
//
//	2xx        done
//	429, 503   tried again, no sooner than the answer's Retry-After says
//	other 4xx  trying again does not help
//	all else   tried again: also redirects, which are not followed, and answers that do not come
//
// Delivery is at least once: a service must be able to meet an event a second time. It knows it by
// ce-source and ce-id together, or by webhook-id, which is made of both and is the same for every
// attempt.
package webhook
