import java.net.InetAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import java.util.stream.Collectors;
import javax.naming.directory.InitialDirContext;

/**
 * Looks up by Java: `host:NAME`, `ptr:ADDRESS`, and `srv:NAME` by its naming interface, which is a resolver of its own.
 * Prints `question answer,answer milliseconds`.
 */
public class Names {
  public static void main(String[] questions) {
    for (String question : questions) {
      String[] parts = question.split(":", 2);
      long start = System.nanoTime();
      String found;
      try {
        found = look(parts[0], parts[1]);
      } catch (Exception failure) {
        found = "-";
      }
      System.out.println(question + " " + found + " " + (System.nanoTime() - start) / 1_000_000);
    }
  }

  private static String look(String kind, String what) throws Exception {
    if (kind.equals("ptr")) {
      String name = InetAddress.getByName(what).getCanonicalHostName();
      return name.equals(what) ? "-" : name;
    }
    if (kind.equals("srv")) {
      Properties settings = new Properties();
      settings.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
      List<String> found = new ArrayList<>();
      for (Object record : Collections.list(
          new InitialDirContext(settings).getAttributes(what, new String[] {"SRV"}).get("SRV").getAll())) {
        String[] fields = record.toString().split(" ");
        found.add(fields[3] + ":" + fields[2]);
      }
      return String.join(",", found);
    }
    return Arrays.stream(InetAddress.getAllByName(what))
        .map(InetAddress::getHostAddress).collect(Collectors.joining(","));
  }
}
