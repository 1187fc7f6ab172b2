package rest

import (
	"fmt"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

var (
	panicsTotal  = metrics.NewCounter(`xcord_rest_panics_total`)
	refusedTotal = metrics.NewCounter(`xcord_rest_refused_requests_total`) // unreadable: never got as far as a route
)

// routeMetrics are the metrics of one route. The labels are the route's template and the class of the status, so their
// number is the number of routes times six, whatever clients send.
type routeMetrics struct {
	byClass [6]*metrics.Counter // index: status / 100
	seconds *metrics.PrometheusHistogram
}

// newRouteMetrics returns the metrics of a route; two servers of one process share them.
func newRouteMetrics(method, path string) routeMetrics {
	// The router takes any text as a path, a metric's label does not.
	path = strings.NewReplacer(`"`, "", `\`, "", "\n", "").Replace(path)
	var m routeMetrics
	for class := range m.byClass {
		m.byClass[class] = metrics.GetOrCreateCounter(
			fmt.Sprintf(`xcord_rest_requests_total{method=%q,route=%q,status="%dxx"}`, method, path, class))
	}
	m.seconds = metrics.GetOrCreatePrometheusHistogram(
		fmt.Sprintf(`xcord_rest_request_duration_seconds{method=%q,route=%q}`, method, path))
	return m
}

func (m *routeMetrics) observe(status int, took time.Duration) {
	class := status / 100
	if class < 0 || class >= len(m.byClass) {
		class = 0
	}
	m.byClass[class].Inc()
	m.seconds.Update(took.Seconds())
}
