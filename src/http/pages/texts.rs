//! The texts of the pages, in each language. `{nickname}` and `{address}` stand for those of the account and `{at}` for a time.
//! `Texts` is one struct, so that a language cannot lack a text.

use doorward_actors::Locale;

/// The texts of one language.
pub(super) struct Texts {
    pub(super) verify_title: &'static str,
    pub(super) verify_text: &'static str,
    pub(super) verify_button: &'static str,
    pub(super) verify_otherwise: &'static str,
    pub(super) verified_title: &'static str,
    pub(super) verified_text: &'static str,
    pub(super) verify_used: &'static str,
    pub(super) change_title: &'static str,
    pub(super) change_text: &'static str,
    pub(super) change_button: &'static str,
    pub(super) change_otherwise: &'static str,
    pub(super) changed_title: &'static str,
    pub(super) changed_text: &'static str,
    pub(super) change_used: &'static str,
    pub(super) undo_title: &'static str,
    pub(super) undo_text: &'static str,
    pub(super) undo_button: &'static str,
    pub(super) undo_otherwise: &'static str,
    pub(super) undone_title: &'static str,
    pub(super) undone_text: &'static str,
    pub(super) undo_used: &'static str,
    pub(super) reset_title: &'static str,
    pub(super) reset_text: &'static str,
    pub(super) password_label: &'static str,
    pub(super) password_hint: &'static str,
    pub(super) passphrase_label: &'static str,
    pub(super) passphrase_hint: &'static str,
    pub(super) reset_button: &'static str,
    pub(super) reset_otherwise: &'static str,
    pub(super) reset_done_title: &'static str,
    pub(super) reset_done_text: &'static str,
    pub(super) reset_kept_title: &'static str,
    pub(super) reset_kept_text: &'static str,
    pub(super) reset_used: &'static str,
    pub(super) too_short: &'static str,
    pub(super) too_plain: &'static str,
    pub(super) guessable: &'static str,
    pub(super) breached: &'static str,
    pub(super) too_long: &'static str,
    pub(super) no_match: &'static str,
    pub(super) missing: &'static str,
    pub(super) bad_title: &'static str,
    pub(super) bad_text: &'static str,
    pub(super) used_title: &'static str,
    pub(super) taken_title: &'static str,
    pub(super) taken_text: &'static str,
    pub(super) busy_title: &'static str,
    pub(super) busy_text: &'static str,
    pub(super) failed_title: &'static str,
    pub(super) failed_text: &'static str,
}

impl Texts {
    /// Returns the texts of a language.
    pub(super) const fn of(locale: Locale) -> &'static Self {
        match locale {
            Locale::En => &EN,
            Locale::De => &DE,
            Locale::Fr => &FR,
            Locale::Es => &ES,
            Locale::Ro => &RO,
        }
    }
}

static EN: Texts = Texts {
    verify_title: "Confirm your e-mail address",
    verify_text: "An account named {nickname} was registered here with the address {address}. Was that you?",
    verify_button: "Yes, confirm the address",
    verify_otherwise: "If it was not you, close this page: the address stays unconfirmed.",
    verified_title: "Address confirmed",
    verified_text: "Thank you. You can close this page and log in.",
    verify_used: "The address was confirmed with this link on {at}. There is nothing left to do here: log in where you \
         use your account.",
    change_title: "Confirm your new e-mail address",
    change_text: "The account {nickname} is to have the address {address} from now on. Did you ask for that?",
    change_button: "Yes, use this address",
    change_otherwise: "If you did not ask for it, close this page: nothing changes.",
    changed_title: "Address changed",
    changed_text: "Your account has the new address from now on. Log in with it.",
    change_used: "Your account got its new address with this link on {at}. Log in with that address where you use your \
         account. To have another one, ask for that there.",
    undo_title: "Undo what was done",
    undo_text: "Shall the account {nickname} have the address {address} again? Passwords and passphrases that were set \
         since the mail become unusable, and every session ends.",
    undo_button: "Undo it",
    undo_otherwise: "If you did all of that yourself, close this page.",
    undone_title: "Undone",
    undone_text: "Every session of the account has ended. A mail with a link to choose a new password is on its way: use it \
         now, as somebody else may know the old one.",
    undo_used: "What was done to the account was undone with this link on {at}. A mail with a link to choose a new \
         password was sent then: use that link. If it no longer works, ask for another where you log in.",
    reset_title: "Choose a new password",
    reset_text: "This is for the account {nickname} with the address {address}. When it is done, every session of the account \
         ends.",
    password_label: "New password",
    password_hint: "At least 15 characters; or at least 8, with upper and lower case letters, a digit and a special character.",
    passphrase_label: "Recovery passphrase",
    passphrase_hint: "The one you chose when you registered. Upper and lower case and spacing do not matter.",
    reset_button: "Set the new password",
    reset_otherwise: "If you did not ask for this, close this page: your password stays as it is.",
    reset_done_title: "Password changed",
    reset_done_text: "Every session of your account has ended. You can close this page and log in with the new password.",
    reset_kept_title: "The password chosen first counts",
    reset_kept_text: "This link was used a moment ago, and the password that was chosen then is the one that counts. \
         The one that you have just typed was not saved. Log in with the first. If you do not know it, ask for a new \
         mail where you log in.",
    reset_used: "A new password was chosen with this link on {at}. Log in with that password where you use your \
         account. If you no longer know it, or it was not you who chose it, ask for a new mail where you log in.",
    too_short: "This password is too weak: it must have at least 8 characters.",
    too_plain: "This password is too weak: with fewer than 15 characters it must have an upper case letter, a lower case \
         letter, a digit and a special character.",
    guessable: "This password is too weak: it is too common or too easy to guess.",
    breached: "This password is too weak: it became known in a breach of another service.",
    too_long: "This is too long.",
    no_match: "This does not match.",
    missing: "This is needed.",
    bad_title: "This link does not work",
    bad_text: "It was used already, replaced by a newer one, or is over. If you still need it, have a new mail sent to you \
         and open the link in the newest one.",
    used_title: "This link was used already",
    taken_title: "This address is taken",
    taken_text: "Another account has this address. Log in and choose a different one.",
    busy_title: "Please try again in a moment",
    busy_text: "The service is busy, or there were too many attempts. Wait a little, then open the link from the mail again.",
    failed_title: "That did not work",
    failed_text: "Please open the link from the mail again.",
};

static DE: Texts = Texts {
    verify_title: "E-Mail-Adresse bestätigen",
    verify_text: "Hier wurde ein Konto mit dem Namen {nickname} und der Adresse {address} eröffnet. Waren Sie das?",
    verify_button: "Ja, Adresse bestätigen",
    verify_otherwise: "Wenn Sie das nicht waren, schließen Sie diese Seite: Die Adresse bleibt unbestätigt.",
    verified_title: "Adresse bestätigt",
    verified_text: "Vielen Dank. Sie können diese Seite schließen und sich anmelden.",
    verify_used: "Mit diesem Link wurde die Adresse am {at} bestätigt. Hier ist nichts mehr zu tun: Melden Sie sich \
         dort an, wo Sie Ihr Konto nutzen.",
    change_title: "Neue E-Mail-Adresse bestätigen",
    change_text: "Das Konto {nickname} soll von jetzt an die Adresse {address} haben. Haben Sie das beantragt?",
    change_button: "Ja, diese Adresse verwenden",
    change_otherwise: "Wenn Sie das nicht beantragt haben, schließen Sie diese Seite: Es ändert sich nichts.",
    changed_title: "Adresse geändert",
    changed_text: "Ihr Konto hat von jetzt an die neue Adresse. Melden Sie sich mit ihr an.",
    change_used: "Mit diesem Link hat Ihr Konto am {at} die neue Adresse bekommen. Melden Sie sich dort, wo Sie Ihr \
         Konto nutzen, mit dieser Adresse an. Eine andere können Sie ebenfalls dort anfordern.",
    undo_title: "Rückgängig machen, was geschehen ist",
    undo_text: "Soll das Konto {nickname} wieder die Adresse {address} haben? Passwörter und Passphrasen, die seit der \
         E-Mail gesetzt wurden, werden unbrauchbar, und alle Sitzungen enden.",
    undo_button: "Rückgängig machen",
    undo_otherwise: "Wenn Sie das alles selbst getan haben, schließen Sie diese Seite.",
    undone_title: "Rückgängig gemacht",
    undone_text: "Alle Sitzungen des Kontos sind beendet. Eine E-Mail mit einem Link für ein neues Passwort ist unterwegs: \
         Verwenden Sie ihn jetzt, denn das alte könnte jemand anderes kennen.",
    undo_used: "Mit diesem Link wurde am {at} rückgängig gemacht, was mit dem Konto geschehen war. Dabei wurde eine \
         E-Mail mit einem Link für ein neues Passwort verschickt: Verwenden Sie jenen Link. Wenn er nicht mehr \
         funktioniert, fordern Sie beim Anmelden einen neuen an.",
    reset_title: "Neues Passwort wählen",
    reset_text: "Es gilt für das Konto {nickname} mit der Adresse {address}. Danach sind alle Sitzungen des Kontos beendet.",
    password_label: "Neues Passwort",
    password_hint: "Mindestens 15 Zeichen; oder mindestens 8, mit Groß- und Kleinbuchstaben, einer Ziffer und einem \
               Sonderzeichen.",
    passphrase_label: "Wiederherstellungssatz",
    passphrase_hint: "Der Satz, den Sie bei der Registrierung gewählt haben. Groß- und Kleinschreibung und Leerzeichen spielen \
         keine Rolle.",
    reset_button: "Neues Passwort setzen",
    reset_otherwise: "Wenn Sie das nicht angefordert haben, schließen Sie diese Seite: Ihr Passwort bleibt, wie es ist.",
    reset_done_title: "Passwort geändert",
    reset_done_text: "Alle Sitzungen Ihres Kontos sind beendet. Sie können diese Seite schließen und sich mit dem neuen Passwort \
         anmelden.",
    reset_kept_title: "Es gilt das zuerst gewählte Passwort",
    reset_kept_text: "Dieser Link wurde gerade eben verwendet, und es gilt das Passwort, das dabei gewählt wurde. Das \
         eben eingegebene wurde nicht gespeichert. Melden Sie sich mit dem ersten an. Wenn Sie es nicht kennen, \
         fordern Sie beim Anmelden eine neue E-Mail an.",
    reset_used: "Mit diesem Link wurde am {at} ein neues Passwort gewählt. Melden Sie sich dort, wo Sie Ihr Konto \
         nutzen, mit diesem Passwort an. Wenn Sie es nicht mehr kennen oder es nicht selbst gewählt haben, fordern Sie \
         beim Anmelden eine neue E-Mail an.",
    too_short: "Dieses Passwort ist zu schwach: Es muss mindestens 8 Zeichen haben.",
    too_plain: "Dieses Passwort ist zu schwach: Mit weniger als 15 Zeichen muss es einen Großbuchstaben, einen \
               Kleinbuchstaben, eine Ziffer und ein Sonderzeichen haben.",
    guessable: "Dieses Passwort ist zu schwach: Es ist zu verbreitet oder zu leicht zu erraten.",
    breached: "Dieses Passwort ist zu schwach: Es wurde durch ein Datenleck bei einem anderen Dienst bekannt.",
    too_long: "Das ist zu lang.",
    no_match: "Das stimmt nicht überein.",
    missing: "Das wird gebraucht.",
    bad_title: "Dieser Link funktioniert nicht",
    bad_text: "Er wurde schon verwendet, durch einen neueren ersetzt oder ist abgelaufen. Wenn Sie ihn noch brauchen, \
         lassen Sie sich eine neue E-Mail schicken und öffnen Sie den Link in der neuesten.",
    used_title: "Dieser Link wurde schon verwendet",
    taken_title: "Diese Adresse ist vergeben",
    taken_text: "Ein anderes Konto hat diese Adresse. Melden Sie sich an und wählen Sie eine andere.",
    busy_title: "Bitte versuchen Sie es gleich noch einmal",
    busy_text: "Der Dienst ist ausgelastet, oder es waren zu viele Versuche. Warten Sie ein wenig und öffnen Sie dann den \
         Link aus der E-Mail noch einmal.",
    failed_title: "Das hat nicht geklappt",
    failed_text: "Bitte öffnen Sie den Link aus der E-Mail noch einmal.",
};

static FR: Texts = Texts {
    verify_title: "Confirmez votre adresse e-mail",
    verify_text: "Un compte nommé {nickname} a été créé ici avec l’adresse {address}. Était-ce vous\u{a0}?",
    verify_button: "Oui, confirmer l’adresse",
    verify_otherwise: "Si ce n’était pas vous, fermez cette page\u{a0}: l’adresse reste non confirmée.",
    verified_title: "Adresse confirmée",
    verified_text: "Merci. Vous pouvez fermer cette page et vous connecter.",
    verify_used: "L’adresse a été confirmée par ce lien le {at}. Il n’y a plus rien à faire ici\u{a0}: connectez-vous là où \
         vous utilisez votre compte.",
    change_title: "Confirmez votre nouvelle adresse e-mail",
    change_text: "Le compte {nickname} doit désormais avoir l’adresse {address}. L’avez-vous demandé\u{a0}?",
    change_button: "Oui, utiliser cette adresse",
    change_otherwise: "Si vous ne l’avez pas demandé, fermez cette page\u{a0}: rien ne change.",
    changed_title: "Adresse modifiée",
    changed_text: "Votre compte a désormais la nouvelle adresse. Connectez-vous avec elle.",
    change_used: "Votre compte a reçu sa nouvelle adresse par ce lien le {at}. Connectez-vous avec cette adresse là où \
         vous utilisez votre compte. C’est là aussi que vous pouvez en demander une autre.",
    undo_title: "Annuler ce qui a été fait",
    undo_text: "Le compte {nickname} doit-il retrouver l’adresse {address}\u{a0}? Les mots de passe et phrases secrètes \
         définis depuis le message deviendront inutilisables et toutes les sessions prendront fin.",
    undo_button: "Annuler",
    undo_otherwise: "Si vous avez fait tout cela vous-même, fermez cette page.",
    undone_title: "Annulé",
    undone_text: "Toutes les sessions du compte ont pris fin. Un message avec un lien pour choisir un nouveau mot de passe \
         est en route\u{a0}: utilisez-le maintenant, car une autre personne connaît peut-être l’ancien.",
    undo_used: "Ce qui avait été fait sur le compte a été annulé par ce lien le {at}. Un message avec un lien pour \
         choisir un nouveau mot de passe a alors été envoyé\u{a0}: utilisez ce lien. S’il ne fonctionne plus, demandez-en \
         un autre là où vous vous connectez.",
    reset_title: "Choisissez un nouveau mot de passe",
    reset_text: "Il vaut pour le compte {nickname} avec l’adresse {address}. Toutes les sessions du compte prendront alors \
         fin.",
    password_label: "Nouveau mot de passe",
    password_hint: "Au moins 15 caractères\u{a0}; ou au moins 8, avec majuscules, minuscules, un chiffre et un caractère \
         spécial.",
    passphrase_label: "Phrase de récupération",
    passphrase_hint: "Celle que vous avez choisie lors de l’inscription. Les majuscules et les espaces ne comptent pas.",
    reset_button: "Définir le nouveau mot de passe",
    reset_otherwise: "Si vous ne l’avez pas demandé, fermez cette page\u{a0}: votre mot de passe reste inchangé.",
    reset_done_title: "Mot de passe modifié",
    reset_done_text: "Toutes les sessions de votre compte ont pris fin. Vous pouvez fermer cette page et vous connecter avec le \
         nouveau mot de passe.",
    reset_kept_title: "Le premier mot de passe choisi est le bon",
    reset_kept_text: "Ce lien vient d’être utilisé, et c’est le mot de passe choisi à ce moment-là qui compte. Celui \
         que vous venez de saisir n’a pas été enregistré. Connectez-vous avec le premier. Si vous ne le connaissez \
         pas, demandez un nouveau message là où vous vous connectez.",
    reset_used: "Un nouveau mot de passe a été choisi par ce lien le {at}. Connectez-vous avec ce mot de passe là où \
         vous utilisez votre compte. Si vous ne le connaissez plus, ou si ce n’est pas vous qui l’avez choisi, \
         demandez un nouveau message là où vous vous connectez.",
    too_short: "Ce mot de passe est trop faible\u{a0}: il doit avoir au moins 8 caractères.",
    too_plain: "Ce mot de passe est trop faible\u{a0}: avec moins de 15 caractères, il doit contenir une majuscule, une \
         minuscule, un chiffre et un caractère spécial.",
    guessable: "Ce mot de passe est trop faible\u{a0}: il est trop courant ou trop facile à deviner.",
    breached: "Ce mot de passe est trop faible\u{a0}: il a été révélé par une fuite de données d’un autre service.",
    too_long: "C’est trop long.",
    no_match: "Cela ne correspond pas.",
    missing: "Ce champ est nécessaire.",
    bad_title: "Ce lien ne fonctionne pas",
    bad_text: "Il a déjà servi, a été remplacé par un plus récent ou a expiré. Si vous en avez encore besoin, demandez un \
         nouveau message et ouvrez le lien du plus récent.",
    used_title: "Ce lien a déjà été utilisé",
    taken_title: "Cette adresse est prise",
    taken_text: "Un autre compte a cette adresse. Connectez-vous et choisissez-en une autre.",
    busy_title: "Veuillez réessayer dans un instant",
    busy_text: "Le service est occupé, ou il y a eu trop d’essais. Attendez un peu, puis ouvrez de nouveau le lien du \
         message.",
    failed_title: "Cela n’a pas fonctionné",
    failed_text: "Veuillez ouvrir de nouveau le lien du message.",
};

static ES: Texts = Texts {
    verify_title: "Confirme su dirección de correo electrónico",
    verify_text: "Aquí se ha creado una cuenta con el nombre {nickname} y la dirección {address}. ¿Ha sido usted?",
    verify_button: "Sí, confirmar la dirección",
    verify_otherwise: "Si no ha sido usted, cierre esta página: la dirección queda sin confirmar.",
    verified_title: "Dirección confirmada",
    verified_text: "Gracias. Puede cerrar esta página e iniciar sesión.",
    verify_used: "Con este enlace se confirmó la dirección el {at}. Aquí no queda nada por hacer: inicie sesión donde \
         usa su cuenta.",
    change_title: "Confirme su nueva dirección de correo electrónico",
    change_text: "La cuenta {nickname} tendrá a partir de ahora la dirección {address}. ¿Lo ha solicitado usted?",
    change_button: "Sí, usar esta dirección",
    change_otherwise: "Si no lo ha solicitado, cierre esta página: no cambia nada.",
    changed_title: "Dirección cambiada",
    changed_text: "Su cuenta tiene a partir de ahora la nueva dirección. Inicie sesión con ella.",
    change_used: "Con este enlace su cuenta recibió la nueva dirección el {at}. Inicie sesión con esa dirección donde \
         usa su cuenta. Allí también puede solicitar otra.",
    undo_title: "Deshacer lo que se hizo",
    undo_text: "¿Debe la cuenta {nickname} volver a tener la dirección {address}? Las contraseñas y frases de contraseña \
         elegidas desde el mensaje quedarán inutilizadas y se cerrarán todas las sesiones.",
    undo_button: "Deshacer",
    undo_otherwise: "Si ha hecho todo eso usted, cierre esta página.",
    undone_title: "Deshecho",
    undone_text: "Se han cerrado todas las sesiones de la cuenta. Un mensaje con un enlace para elegir una contraseña nueva \
         está en camino: úselo ahora, pues otra persona puede conocer la antigua.",
    undo_used: "Con este enlace se deshizo el {at} lo que se había hecho con la cuenta. Entonces se envió un mensaje \
         con un enlace para elegir una contraseña nueva: use ese enlace. Si ya no funciona, pida otro donde inicia \
         sesión.",
    reset_title: "Elija una contraseña nueva",
    reset_text: "Es para la cuenta {nickname} con la dirección {address}. Después se cerrarán todas las sesiones de la \
         cuenta.",
    password_label: "Contraseña nueva",
    password_hint: "Al menos 15 caracteres; o al menos 8, con mayúsculas, minúsculas, una cifra y un carácter especial.",
    passphrase_label: "Frase de recuperación",
    passphrase_hint: "La que eligió al registrarse. No importan las mayúsculas ni los espacios.",
    reset_button: "Guardar la contraseña nueva",
    reset_otherwise: "Si no lo ha solicitado, cierre esta página: su contraseña no cambia.",
    reset_done_title: "Contraseña cambiada",
    reset_done_text: "Se han cerrado todas las sesiones de su cuenta. Puede cerrar esta página e iniciar sesión con la contraseña \
         nueva.",
    reset_kept_title: "Vale la contraseña elegida primero",
    reset_kept_text: "Este enlace se usó hace un momento, y la contraseña que se eligió entonces es la que vale. La \
         que acaba de escribir no se ha guardado. Inicie sesión con la primera. Si no la conoce, pida un nuevo mensaje \
         donde inicia sesión.",
    reset_used: "Con este enlace se eligió una contraseña nueva el {at}. Inicie sesión con esa contraseña donde usa su \
         cuenta. Si ya no la recuerda o no la eligió usted, pida un nuevo mensaje donde inicia sesión.",
    too_short: "Esta contraseña es demasiado débil: debe tener al menos 8 caracteres.",
    too_plain: "Esta contraseña es demasiado débil: con menos de 15 caracteres debe tener una mayúscula, una minúscula, una \
         cifra y un carácter especial.",
    guessable: "Esta contraseña es demasiado débil: es demasiado común o demasiado fácil de adivinar.",
    breached: "Esta contraseña es demasiado débil: se dio a conocer en una filtración de otro servicio.",
    too_long: "Es demasiado largo.",
    no_match: "No coincide.",
    missing: "Este campo es necesario.",
    bad_title: "Este enlace no funciona",
    bad_text: "Ya se ha usado, lo ha sustituido uno más reciente o ha caducado. Si todavía lo necesita, pida que se le \
         envíe un nuevo mensaje y abra el enlace del más reciente.",
    used_title: "Este enlace ya se ha usado",
    taken_title: "Esta dirección está ocupada",
    taken_text: "Otra cuenta tiene esta dirección. Inicie sesión y elija otra.",
    busy_title: "Inténtelo de nuevo en un momento",
    busy_text: "El servicio está ocupado o ha habido demasiados intentos. Espere un poco y vuelva a abrir el enlace del \
         mensaje.",
    failed_title: "No ha funcionado",
    failed_text: "Vuelva a abrir el enlace del mensaje.",
};

static RO: Texts = Texts {
    verify_title: "Confirmați adresa de e-mail",
    verify_text: "Aici a fost creat un cont cu numele {nickname} și adresa {address}. Ați fost dumneavoastră?",
    verify_button: "Da, confirm adresa",
    verify_otherwise: "Dacă nu ați fost dumneavoastră, închideți această pagină: adresa rămâne neconfirmată.",
    verified_title: "Adresă confirmată",
    verified_text: "Vă mulțumim. Puteți închide această pagină și vă puteți autentifica.",
    verify_used: "Prin acest link a fost confirmată adresa la {at}. Aici nu mai este nimic de făcut: autentificați-vă \
         acolo unde folosiți contul.",
    change_title: "Confirmați noua adresă de e-mail",
    change_text: "Contul {nickname} va avea de acum adresa {address}. Ați cerut dumneavoastră acest lucru?",
    change_button: "Da, folosesc această adresă",
    change_otherwise: "Dacă nu ați cerut acest lucru, închideți această pagină: nu se schimbă nimic.",
    changed_title: "Adresă schimbată",
    changed_text: "Contul are de acum noua adresă. Autentificați-vă cu ea.",
    change_used: "Prin acest link contul a primit noua adresă la {at}. Autentificați-vă cu această adresă acolo unde \
         folosiți contul. Tot acolo puteți cere o alta.",
    undo_title: "Anulați ceea ce s-a făcut",
    undo_text: "Contul {nickname} trebuie să aibă din nou adresa {address}? Parolele și frazele secrete alese după mesaj \
         devin inutilizabile și toate sesiunile se încheie.",
    undo_button: "Anulați",
    undo_otherwise: "Dacă ați făcut toate acestea chiar dumneavoastră, închideți această pagină.",
    undone_title: "Anulat",
    undone_text: "Toate sesiunile contului s-au încheiat. Un mesaj cu un link pentru o parolă nouă este pe drum: folosiți-l \
         acum, pentru că altcineva poate cunoaște parola veche.",
    undo_used: "Prin acest link a fost anulat la {at} ceea ce se făcuse cu contul. Atunci a fost trimis un mesaj cu un \
         link pentru o parolă nouă: folosiți acel link. Dacă nu mai funcționează, cereți altul acolo unde vă \
         autentificați.",
    reset_title: "Alegeți o parolă nouă",
    reset_text: "Este pentru contul {nickname} cu adresa {address}. După aceea se încheie toate sesiunile contului.",
    password_label: "Parolă nouă",
    password_hint: "Cel puțin 15 caractere; sau cel puțin 8, cu litere mari și mici, o cifră și un caracter special.",
    passphrase_label: "Fraza de recuperare",
    passphrase_hint: "Cea aleasă la înregistrare. Literele mari și spațiile nu contează.",
    reset_button: "Salvez parola nouă",
    reset_otherwise: "Dacă nu ați cerut acest lucru, închideți această pagină: parola rămâne neschimbată.",
    reset_done_title: "Parolă schimbată",
    reset_done_text: "Toate sesiunile contului s-au încheiat. Puteți închide această pagină și vă puteți autentifica cu parola \
         nouă.",
    reset_kept_title: "Este valabilă parola aleasă prima dată",
    reset_kept_text: "Acest link tocmai a fost folosit și este valabilă parola aleasă atunci. Cea pe care ați scris-o \
         acum nu a fost salvată. Autentificați-vă cu prima. Dacă nu o știți, cereți un mesaj nou acolo unde vă \
         autentificați.",
    reset_used: "Prin acest link a fost aleasă o parolă nouă la {at}. Autentificați-vă cu această parolă acolo unde \
         folosiți contul. Dacă nu o mai știți sau nu dumneavoastră ați ales-o, cereți un mesaj nou acolo unde vă \
         autentificați.",
    too_short: "Această parolă este prea slabă: trebuie să aibă cel puțin 8 caractere.",
    too_plain: "Această parolă este prea slabă: cu mai puțin de 15 caractere trebuie să aibă o literă mare, o literă mică, o \
         cifră și un caracter special.",
    guessable: "Această parolă este prea slabă: este prea comună sau prea ușor de ghicit.",
    breached: "Această parolă este prea slabă: a devenit cunoscută printr-o scurgere de date de la alt serviciu.",
    too_long: "Este prea lung.",
    no_match: "Nu se potrivește.",
    missing: "Acest câmp este necesar.",
    bad_title: "Acest link nu funcționează",
    bad_text: "A fost folosit deja, a fost înlocuit de unul mai nou sau a expirat. Dacă încă aveți nevoie de el, cereți un \
         mesaj nou și deschideți linkul din cel mai recent.",
    used_title: "Acest link a fost deja folosit",
    taken_title: "Această adresă este ocupată",
    taken_text: "Un alt cont are această adresă. Autentificați-vă și alegeți alta.",
    busy_title: "Încercați din nou peste o clipă",
    busy_text: "Serviciul este ocupat sau au fost prea multe încercări. Așteptați puțin, apoi deschideți din nou linkul din \
         mesaj.",
    failed_title: "Nu a funcționat",
    failed_text: "Deschideți din nou linkul din mesaj.",
};
