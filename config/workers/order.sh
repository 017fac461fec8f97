#!/bin/sh
# The work of order-fulfilment, for trying things out: one run a task, its input as JSON on standard input.
# statehouse worker run --queue reserve-stock ... --exec config/workers/order.sh
input=$(cat)
case "$STATEHOUSE_QUEUE $input" in
    "charge-card "*'"declined"'*)
        echo '{"error": {"code": "card_declined", "message": "the bank says no"}}'
        exit 2 ;;
    "create-shipment "*'"nowhere-'*)
        echo '{"error": {"code": "no_address", "message": "the parcel has no address"}}'
        exit 2 ;;
    "reserve-stock "*) echo "{\"reservationId\": \"r-$STATEHOUSE_INSTANCE\"}" ;;
    "charge-card "*) echo "{\"chargeId\": \"$STATEHOUSE_IDEMPOTENCY_KEY\"}" ;;
    "create-shipment "*) echo "{\"trackingId\": \"t-$STATEHOUSE_INSTANCE\"}" ;;
esac
