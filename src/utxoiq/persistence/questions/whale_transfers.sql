-- Transactions that moved 100 BTC and more to other scripts than they spent, at most ten a block, in sat. known: blocks of the day whose spent outputs are known.
WITH covered AS (
    SELECT day, COUNT(*) AS blocks, COUNT(total_fees_sat) AS known FROM connected_blocks GROUP BY day
)
SELECT t.day, t.block_height, t.txid, t.moved_sat, t.change_sat, t.fee_sat, t.inputs, t.outputs, c.blocks, c.known
FROM large_transfers AS t JOIN covered AS c ON c.day = t.day
