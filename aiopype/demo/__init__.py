"""The demo: thirteen years of a stock's daily prices, polled, through Kafka, into CSV files.

`flow` is the example of how a program is written with aiopype. The rest is around it: the data
(`days`), a quote server to poll (`server`), and what runs the flow for a person to look at
(`__main__`, `directory`, `outputs`, `watch`). Nothing of it is used by the package.
"""
