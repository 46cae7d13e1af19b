"""The demo: a stock's daily prices, polled, and its trades, live, through Kafka, into CSV files.

`flow`, and `quotes`, `trades` and `csv_output` that it wires, are the example of how a program is
written with aiopype. The rest is around it: the data (`days`), what stands for the internet
(`quote_server`, `exchange`, `trade_server`, `serving`), and what runs the flow for a person to look
at (`__main__`, `directory`, `outputs`, `watch`). Nothing of it is used by the package.
"""
