import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** Publishes a request as it is given, and prints its answer: args are brokers, the request, a text that the answer has. */
public class AskFromJava {
    public static void main(String[] args) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("isolation.level", "read_committed");
        settings.put("auto.offset.reset", "earliest");
        for (String kind : new String[] {"key", "value"}) {
            settings.put(kind + ".serializer", "org.apache.kafka.common.serialization.StringSerializer");
            settings.put(kind + ".deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        }
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
            producer.send(new ProducerRecord<>("reasoning.requests", args[1])).get();
        }
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings)) {
            consumer.assign(consumer.partitionsFor("reasoning.answers").stream()
                .map(each -> new TopicPartition(each.topic(), each.partition())).collect(Collectors.toList()));
            consumer.seekToBeginning(consumer.assignment());
            long until = System.currentTimeMillis() + 60_000;
            while (System.currentTimeMillis() < until) {
                for (var each : consumer.poll(Duration.ofMillis(200))) {
                    if (each.value().contains(args[2])) {
                        System.out.write(each.value().getBytes(StandardCharsets.UTF_8));
                        System.out.flush();
                        return;
                    }
                }
            }
        }
        throw new IllegalStateException("no answer within a minute");
    }
}
