import net.imagej.patcher.LegacyInjector;
import org.python.jsr223.PyScriptEngineFactory;
import org.scijava.Context;
import org.scijava.console.ConsoleService;
import org.scijava.script.AdaptedScriptLanguage;
import org.scijava.script.ScriptService;

import java.util.Arrays;
import java.util.Set;

/** What Fiji's own launcher does with --ij2 --headless --console --run SCRIPT PARAMETERS: SciJava reads the words. */
public class Launcher {
    private static final Set<String> ITS_OWN = Set.of("--ij2", "--headless", "--console");

    public static void main(String[] words) {
        LegacyInjector.preinit(); // before any class of ImageJ is loaded
        Session.run(Arrays.stream(words).filter(word -> !ITS_OWN.contains(word)).toArray(String[]::new));
    }
}

/** Apart from Launcher, since it loads classes of ImageJ. */
class Session {
    static void run(String[] words) {
        Context context = new Context();
        context.service(ScriptService.class).getIndex().add(new AdaptedScriptLanguage(new PyScriptEngineFactory()), false);
        context.service(ConsoleService.class).processArgs(words);
        context.dispose();
        System.exit(0); // as Fiji ends: whatever became of the script
    }
}
