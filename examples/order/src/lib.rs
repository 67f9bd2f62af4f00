//! An event function: it checks an order and totals it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most of one thing that may be ordered.
const MAX_QUANTITY: u32 = 1_000;

/// What is ordered. An unknown field is an error: a misspelt `discount` must not pass in silence.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    id: String,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    sku: String,
    quantity: u32,
    unit_cents: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Receipt {
    id: String,
    pieces: u64,
    total_cents: u64,
}

/// Why an order is not taken. The caller sees the name of this type as `errorType`.
#[derive(Debug, PartialEq, Error)]
enum OrderError {
    #[error("order {0} has no lines")]
    Empty(String),
    #[error("{quantity} of {sku} is not from 1 to {MAX_QUANTITY}")]
    Quantity { sku: String, quantity: u32 },
    #[error("the total is more than can be charged")]
    Total,
}

#[wharf_sdk::function]
fn order(order: Order) -> Result<Receipt, OrderError> {
    if order.lines.is_empty() {
        return Err(OrderError::Empty(order.id));
    }
    let mut receipt = Receipt {
        id: order.id,
        pieces: 0,
        total_cents: 0,
    };
    for line in order.lines {
        if !(1..=MAX_QUANTITY).contains(&line.quantity) {
            return Err(OrderError::Quantity {
                sku: line.sku,
                quantity: line.quantity,
            });
        }
        let quantity = u64::from(line.quantity);
        receipt.pieces += quantity;
        receipt.total_cents = quantity
            .checked_mul(line.unit_cents)
            .and_then(|cents| cents.checked_add(receipt.total_cents))
            .ok_or(OrderError::Total)?;
    }
    Ok(receipt)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(event: serde_json::Value) -> Result<Receipt, OrderError> {
        order(serde_json::from_value(event).unwrap())
    }

    #[test]
    fn an_order_is_totalled() {
        let receipt = take(json!({
            "id": "A-1",
            "lines": [
                { "sku": "tea", "quantity": 2, "unit_cents": 450 },
                { "sku": "cup", "quantity": 1, "unit_cents": 1200 },
            ],
        }));
        assert_eq!(
            receipt,
            Ok(Receipt {
                id: "A-1".into(),
                pieces: 3,
                total_cents: 2100
            })
        );
    }

    #[test]
    fn a_bad_order_is_refused_with_its_reason() {
        for (lines, reason) in [
            (json!([]), "order A-1 has no lines"),
            (
                json!([{ "sku": "tea", "quantity": 0, "unit_cents": 1 }]),
                "0 of tea is not from 1 to 1000",
            ),
            (
                json!([{ "sku": "tea", "quantity": 2, "unit_cents": u64::MAX }]),
                "the total is more than can be charged",
            ),
        ] {
            let error = take(json!({ "id": "A-1", "lines": lines })).unwrap_err();
            assert_eq!(error.to_string(), reason);
        }
    }
}
