import java.net.InetAddress;
import java.util.Arrays;
import java.util.stream.Collectors;

/** Looks names up by Java's resolver. Prints `name address,address` or `name -`. */
public class Names {
  public static void main(String[] names) {
    for (String name : names) {
      try {
        System.out.println(name + " " + Arrays.stream(InetAddress.getAllByName(name))
            .map(InetAddress::getHostAddress).collect(Collectors.joining(",")));
      } catch (Exception failure) {
        System.out.println(name + " -");
      }
    }
  }
}
