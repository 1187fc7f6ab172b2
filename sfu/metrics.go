package sfu

import "github.com/VictoriaMetrics/metrics"

var (
	receivedTotal  = metrics.NewCounter(`xcord_sfu_packets_total{what="received"}`)
	forwardedTotal = metrics.NewCounter(`xcord_sfu_packets_total{what="forwarded"}`)
	resentTotal    = metrics.NewCounter(`xcord_sfu_packets_total{what="resent"}`)
	refusedTotal   = metrics.NewCounter(`xcord_sfu_packets_total{what="refused"}`) // not RTP, or not what was negotiated
	droppedTotal   = metrics.NewCounter(`xcord_sfu_packets_total{what="dropped"}`) // the kernel or the connection would not have it
	floodTotal     = metrics.NewCounter(`xcord_sfu_packets_total{what="flood"}`)   // STUN beyond what one address may send

	joinsTotal        = metrics.NewCounter(`xcord_sfu_joins_total{result="ok"}`)
	joinsRefusedTotal = metrics.NewCounter(`xcord_sfu_joins_total{result="refused"}`)
)
