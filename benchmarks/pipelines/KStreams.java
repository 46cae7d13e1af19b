import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Locale;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

/** Kafka Streams in one thread; at least once, which is its default, or exactly once. */
public class KStreams {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) {
    String name = System.getenv("BENCH_NAME");
    String price = name + ".parse.price";
    Serde<byte[]> bytes = Serdes.ByteArray();
    Consumed<byte[], byte[]> consumed = Consumed.with(bytes, bytes);
    Produced<byte[], byte[]> produced = Produced.with(bytes, bytes);
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(name + ".source.raw", consumed).mapValues(KStreams::parse).to(price, produced);
    builder.stream(price, consumed).mapValues(KStreams::row).to(name + ".row.row", produced);

    KafkaStreams streams = new KafkaStreams(builder.build(), settings(name));
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  private static Properties settings(String name) {
    Properties settings = new Properties();
    settings.put("application.id", name);
    settings.put("bootstrap.servers", System.getenv("BENCH_BROKER"));
    settings.put("auto.offset.reset", "earliest");
    settings.put("num.stream.threads", "1");
    settings.put("state.dir", "state");
    if ("exactly_once".equals(System.getenv("BENCH_GUARANTEE"))) {
      settings.put("processing.guarantee", "exactly_once_v2");
    }
    settings.put("producer.acks", "all");
    settings.put("producer.enable.idempotence", "true");
    settings.put("producer.linger.ms", "5");
    settings.put("producer.batch.size", "262144");
    return settings;
  }

  private static byte[] parse(byte[] quote) {
    JsonNode fields = read(quote).path("list").path("resources").path(0).path("resource")
        .path("fields");
    ObjectNode price = JSON.createObjectNode();
    price.put("time", fields.path("utctime").asText());
    price.put("price", Double.parseDouble(fields.path("price").asText()));
    price.put("symbol", fields.path("symbol").asText());
    return write(price);
  }

  private static byte[] row(byte[] value) {
    JsonNode price = read(value);
    ObjectNode row = JSON.createObjectNode();
    row.put("line", price.path("time").asText() + "," + price.path("symbol").asText() + ","
        + String.format(Locale.ROOT, "%.2f", price.path("price").asDouble()));
    return write(row);
  }

  private static JsonNode read(byte[] value) {
    try {
      return JSON.readTree(value);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static byte[] write(JsonNode value) {
    try {
      return JSON.writeValueAsBytes(value);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
