//! `hostkeys-00@openssh.com` (OpenSSH `PROTOCOL` §2.5): a server's announcement of all its host keys.

/// Message number of a global request (RFC 4254 §4).
const GLOBAL_REQUEST: u8 = 80;
const NAME: &[u8] = b"hostkeys-00@openssh.com";

/// Whether `message` announces host keys.
pub(super) fn is_announcement(message: &[u8]) -> bool {
    let Some((&GLOBAL_REQUEST, rest)) = message.split_first() else { return false };
    let Some((length, rest)) = rest.split_first_chunk() else { return false };
    usize::try_from(u32::from_be_bytes(*length)).is_ok_and(|length| rest.get(..length) == Some(NAME))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn global_request(name: &[u8]) -> Vec<u8> {
        let length = u32::try_from(name.len()).unwrap().to_be_bytes();
        [&[GLOBAL_REQUEST], &length[..], name, &[0]].concat()
    }

    #[rstest]
    #[case(global_request(b"hostkeys-00@openssh.com"), true)]
    #[case(global_request(b"hostkeys-prove-00@openssh.com"), false)]
    #[case(global_request(b"tcpip-forward"), false)]
    #[case(vec![90, 0, 0, 0, 23], false)]
    #[case(vec![GLOBAL_REQUEST, 255, 255, 255, 255], false)]
    #[case(vec![GLOBAL_REQUEST, 0, 0], false)]
    #[case(vec![], false)]
    fn only_the_announcement(#[case] message: Vec<u8>, #[case] expected: bool) {
        assert_eq!(is_announcement(&message), expected);
    }
}
