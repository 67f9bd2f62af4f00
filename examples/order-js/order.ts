// Prices an order: an event function in TypeScript. It takes a JSON event and answers with JSON, as a Lambda handler does.

interface Order {
  id: string;
  items: { sku: string; quantity: number; price: number }[];
}

/** The record `invocation-context` of `wharf:function/types`, as far as it is used here. */
interface Context {
  requestId: string;
}

/** The export `wharf:function/handler`. */
export const handler = {
  handle(event: string, context: Context): string {
    try {
      const order: Order = JSON.parse(event);
      return JSON.stringify({ id: order.id, total: total(order), pricedBy: context.requestId });
    } catch (error) {
      // A thrown `function-error` is the function's answer. Anything else that is thrown stops the instance with a trap.
      throw { errorType: error.name, errorMessage: error.message, trace: [] };
    }
  },
};

/** The price of all items, in cents. */
function total(order: Order): number {
  if (!Array.isArray(order.items) || order.items.length === 0) {
    throw new EmptyOrder(`order ${order.id} has no items`);
  }
  return order.items.reduce((sum, item) => sum + item.quantity * item.price, 0);
}

class EmptyOrder extends Error {
  name = "EmptyOrder";
}
